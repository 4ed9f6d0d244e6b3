"""The model as a function of Spark SQL, for rows that carry their history."""

from pathlib import Path

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from din_model.registry.predict import probabilities
from pipelines.shipping import loaded, ship

FUNCTION = "din_score"


def register(spark: SparkSession, model_folder: Path, name: str = FUNCTION) -> None:
    """Register a version's folder (registry.versions.download) under a name, for this session.

    The argument is an encoded example, as in the store: ``SELECT din_score(struct(*)) FROM
    examples``. The function returns the click probability (double).
    """
    shipped = ship(spark, model_folder)

    def din_score(rows: pd.DataFrame) -> pd.Series:
        return pd.Series(probabilities(*loaded(shipped), rows))

    spark.udf.register(name, F.pandas_udf(din_score, "double"))  # type: ignore[call-overload]
