"""Score the candidates of a date with a registered model, and publish the table.

    python -m jobs.score --config conf/demo.yaml --date 2026-11-23 --model 7 [score.explain=3]
    python -m jobs.score --config conf/demo.yaml --date 2026-11-23 score.shadow=8
    python -m jobs.score --config conf/demo.yaml --date 2026-11-22 score.replay=true
    python -m jobs.score --config conf/demo.yaml --date 2026-11-23 score.as_of=2026-11-23T02:00:00Z

The default model is the champion; --model takes a version, @alias or models:/NAME/7. A shadow
version scores the same candidates into its own table, and the job logs how the rankings differ.
The third form publishes nothing: it attaches histories to the day's impressions as scoring does,
and fails if they differ from the examples of that day. With score.as_of the job reads what was
published at that time, as long as jobs.vacuum has kept it.
"""

from datetime import date

from din_model.config import to_dict
from din_model.console import console
from din_model.registry import tracking, versions
from jobs.cli import Settings, main
from pipelines.scoring.score_date import ModelVersion, score_day
from pipelines.scoring.skew_check import replay


def run(settings: Settings, day: date) -> None:
    logs, store = settings.open("score", day)
    if settings.score.replay:
        rows = replay(logs, settings.score.inputs(store), day)
        console.print(f"  replayed {rows:,} impressions of {day}: histories equal the examples'")
        return
    look = tracking.connect(settings.tracking, store.url)
    with tracking.run(f"score {day}", {"job": "score"}, to_dict(settings)):
        version = versions.resolve(settings.tracking.model, settings.score.model)
        model = ModelVersion(settings.tracking.model, version)
        manifest = score_day(logs, store, model, settings.score, day, settings.candidates)
    console.print(
        f"  published {manifest.id}, {manifest.rows:,} scores by version {version}; {look}"
    )


if __name__ == "__main__":
    main(run, __doc__, options={"model": "score.model"})
