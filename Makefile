# Plain `make` prints what there is to make.
PY := .venv/bin/python

.PHONY: help run test style types cover bench fuzz lock clean

help:
	@echo "make run     install what is missing, start hub, TURN server and one device: press c"
	@echo "make test    install what is missing, run every check and every test"
	@echo "make style   formatter and linters        make types   mypy, strict"
	@echo "make cover   tests with branch coverage   make bench   figures of this machine"
	@echo "make fuzz    the fuzz targets, longer     make lock    resolve the locked requirements anew"

run:
	@scripts/setup run
	@$(PY) -m voicemeet_edge demo

test:
	@scripts/setup test
	@$(MAKE) --no-print-directory style types
	@$(PY) -m pytest

style:
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	shellcheck scripts/setup .ci/run

types:
	$(PY) -m mypy

cover:
	$(PY) -m coverage run -m pytest -m "not system"
	$(PY) -m coverage report --skip-covered

bench:
	@scripts/setup test
	$(PY) -m bench

fuzz:
	$(PY) -m tests.fuzz

lock:
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--extra hub --extra echo --extra demo pyproject.toml -o requirements/run.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--all-extras -c requirements/run.txt pyproject.toml -o requirements/dev.txt

clean:
	rm -rf .venv .venv-realtime tests/conformance/js/node_modules out
