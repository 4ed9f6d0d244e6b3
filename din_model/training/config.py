"""The configuration of the training step and of the loop around it."""

from dataclasses import dataclass
from typing import Literal

from din_model.config import Section
from din_model.distributed.collectives import world_size
from din_model.modules.din import Encoder, ModelConfig
from din_model.ranges import Count, Days, NotNegative, Positive, Seed, Share, Size
from din_model.training.rowwise_optimizers import RowRule


@dataclass(frozen=True)
class TrainConfig(Section):
    """How a model is trained.

    Attributes:
        model: its layers.
        window: number of days before the evaluation date to train on.
        start: ``scratch`` trains on all those days; ``champion`` continues from the champion, on
            the days that it has not seen.
        new_item_init_from: with ``start: champion``, an item feature (category); a new item's row
            starts at the mean of the rows with the same value. null: at the unknown row.
        epochs: how often the training rows are read, at most if ``patience`` stops earlier.
        min_steps: with ``patience``, at least this many steps are taken: a small log is read more
            often than ``epochs``.
        batch_size: rows per step on each rank.
        learning_rate: of the dense layers.
        embedding_learning_rate: of the tables; null: the same. A row moves only in steps that touch
            it, so rare ids need a larger rate (five to twenty times).
        embedding_optimizer: of the tables: ``adam``, ``adagrad`` (one sum of squares per row) or
            ``sgd``.
        embedding_engine: ``replicated``: every rank holds all tables; ``sharded``: each rank holds
            its part of the rows (modules.sharded_embeddings).
        dense_optimizer: ``adam``, or ``anyprecision``: AdamW with bfloat16 state and Kahan
            summation.
        bfloat16: train the activation unit in bfloat16; weights, scores and tables stay float32.
            See docs/benchmarks.md for where it is faster.
        local_sgd_period: steps that ranks train the dense layers on their own before these are
            averaged with slow momentum; 0 sums the gradients in every step.
        checkpoint_every: steps between checkpoints, to resume from if the processes die; 0: none.
        min_count: ids in fewer examples of the training days read the unknown row.
        oov_dropout: share of the ids first seen on an example's own day that read the unknown row,
            as the next day's new ids will; see data.loader.
        regularisation: lambda of mini-batch aware regularisation; 0 for none.
        seed: of the weights and of the order of the rows.
        threads: of this process; 0 keeps torch's default.
        schedule: of the learning rate: ``constant``; ``cosine``, to zero over all epochs;
            ``plateau``, halved after a check without a gain on validation rows.
        patience: stop after this many checks without a gain in log loss on the newest training day,
            or on a part of the only day; then train on those rows as often as on the others. 0
            trains all epochs on all days.
        checks_per_epoch: how often an epoch is checked for that, at least every 2,000 steps.
        baselines: encoders to train beside, on the same rows, for comparison; never registered.
    """

    model: ModelConfig = ModelConfig()
    window: Days = 7
    start: Literal["scratch", "champion"] = "scratch"
    new_item_init_from: str | None = None
    epochs: Size = 5
    min_steps: Count = 500
    batch_size: Size = 1024
    learning_rate: Positive = 1e-3
    embedding_learning_rate: Positive | None = None
    embedding_optimizer: RowRule = "adam"
    embedding_engine: Literal["replicated", "sharded"] = "replicated"
    dense_optimizer: Literal["adam", "anyprecision"] = "adam"
    bfloat16: bool = False
    local_sgd_period: Count = 0
    checkpoint_every: Count = 0
    min_count: Count = 5
    oov_dropout: Share = 0.5
    regularisation: NotNegative = 0.0
    seed: Seed = 2019
    threads: Count = 0
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    patience: Count = 5
    checks_per_epoch: Size = 5
    baselines: tuple[Encoder, ...] = ()

    def __post_init__(self) -> None:
        if self.schedule == "plateau" and not self.patience:
            raise ValueError("schedule plateau needs a validation day: set patience")
        if self.embedding_engine == "sharded" and self.embedding_optimizer == "adam":
            raise ValueError("sharded tables support embedding_optimizer adagrad and sgd, not adam")
        if self.embedding_engine == "sharded" and self.regularisation:
            raise ValueError("sharded tables do not support regularisation: set it to 0")

    @property
    def rows_rate(self) -> float:
        """The learning rate of the tables."""
        rate = self.embedding_learning_rate
        return self.learning_rate if rate is None else rate

    @property
    def sharding(self) -> tuple[str, float] | None:
        """Rule and learning rate for sharded tables; None for one rank or replicated tables."""
        sharded = self.embedding_engine == "sharded" and world_size() > 1
        return (self.embedding_optimizer, self.rows_rate) if sharded else None
