"""How a model is trained: the configuration of the step and of the loop around it."""

from dataclasses import dataclass
from typing import Literal

from din_model.config import Section
from din_model.distributed.collectives import world_size
from din_model.modules.din import Encoder, ModelConfig
from din_model.training.rowwise_optimizers import RowRule


@dataclass(frozen=True)
class TrainConfig(Section):
    """How a model is trained.

    Attributes:
        model: its layers.
        window: days of examples before the date that judges.
        start: ``scratch`` trains on the whole window; ``champion`` goes on from the champion with
            the days that it has not seen.
        new_item_init_from: with ``start: champion``, the item's feature (category) that says which rows
            a new item's row starts as the mean of; null: it starts as the unknown row.
        epochs: how often the window is read.
        batch_size: rows of a step, on each rank.
        learning_rate: of the dense layers.
        embedding_learning_rate: of the tables; null: the same. A row moves only in the steps that
            touch it, so rare ids want a larger one (five to twenty times).
        embedding_optimizer: of the tables: ``adam``, ``adagrad`` (one sum of squares a row) or
            ``sgd``.
        embedding_engine: ``replicated``: every rank has all tables; ``sharded``: each rank has its
            share of every table's rows (din_model.modules.sharded_embeddings).
        dense_optimizer: ``adam``, or ``anyprecision``: AdamW with bfloat16 state, Kahan-summed.
        bfloat16: whether the activation unit computes in bfloat16 while it trains; weights, scores
            and tables stay float32. Where the machine is faster at it: docs/benchmarks.md.
        local_sgd_period: ranks train the dense layers by themselves and are averaged, with slow
            momentum, every so many steps; 0 sums their gradients in every step.
        checkpoint_every: steps after which the training is written down, to go on from if its
            processes die (din_model.training.checkpoint); 0: never.
        min_count: ids that fewer examples of the window hold read the unknown row.
        oov_dropout: share of the ids first seen on an example's own day that read the unknown
            row there, as the next day's new ids will; see din_model.data.loader.
        regularisation: lambda of mini-batch aware regularisation; 0 is none.
        seed: of the weights and of the order of the rows.
        threads: of this process; 0 leaves them to torch.
        schedule: of the learning rate: ``constant``; ``cosine``, down to nothing over all epochs;
            ``plateau``, halved after an epoch that does not gain on later days.
        patience: stop after so many epochs without a gain in log loss on the window's last day,
            which is then not trained on; 0 trains all epochs on all days.
        baselines: encoders trained beside, on the same rows, to compare with; never registered.
    """

    model: ModelConfig = ModelConfig()
    window: int = 7
    start: Literal["scratch", "champion"] = "scratch"
    new_item_init_from: str | None = None
    epochs: int = 1
    batch_size: int = 1024
    learning_rate: float = 1e-3
    embedding_learning_rate: float | None = None
    embedding_optimizer: RowRule = "adam"
    embedding_engine: Literal["replicated", "sharded"] = "replicated"
    dense_optimizer: Literal["adam", "anyprecision"] = "adam"
    bfloat16: bool = False
    local_sgd_period: int = 0
    checkpoint_every: int = 0
    min_count: int = 1
    oov_dropout: float = 0.5
    regularisation: float = 0.0
    seed: int = 2019
    threads: int = 0
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    patience: int = 0
    baselines: tuple[Encoder, ...] = ()

    def __post_init__(self) -> None:
        if self.schedule == "plateau" and not self.patience:
            raise ValueError("schedule plateau looks at later days: set patience")
        if self.embedding_engine == "sharded" and self.embedding_optimizer == "adam":
            raise ValueError("sharded tables know embedding_optimizer adagrad and sgd, not adam")
        if self.embedding_engine == "sharded" and self.regularisation:
            raise ValueError("sharded tables know no regularisation: set it to 0")

    @property
    def rows_rate(self) -> float:
        """The learning rate of the tables."""
        rate = self.embedding_learning_rate
        return self.learning_rate if rate is None else rate

    @property
    def sharding(self) -> tuple[str, float] | None:
        """See din_model.modules.din.new_model; one rank alone holds all there is."""
        sharded = self.embedding_engine == "sharded" and world_size() > 1
        return (self.embedding_optimizer, self.rows_rate) if sharded else None
