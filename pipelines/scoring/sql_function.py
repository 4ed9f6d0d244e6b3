"""The model as an ordinary function of Spark SQL, for rows that carry their history."""

from pathlib import Path

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from din_model.registry.predict import probabilities
from pipelines.scoring.scorer import ship
from pipelines.scoring.udf import loaded

FUNCTION = "din_score"


def register(spark: SparkSession, model_folder: Path, name: str = FUNCTION) -> None:
    """Register a version (see din_model.registry.tracking.download) under a name, for this session.

    Its argument is an encoded example as the store holds them:
    ``SELECT din_score(struct(*)) FROM examples``. It returns the click probability (double).
    """
    shipped = ship(spark, model_folder)

    def din_score(rows: pd.DataFrame) -> pd.Series:
        return pd.Series(probabilities(*loaded(shipped), rows))

    spark.udf.register(name, F.pandas_udf(din_score, "double"))  # type: ignore[call-overload]
