# Plain `make` prints what there is to make.
PY := .venv/bin/python
# Bytecode is kept, whatever the shell says: each test that starts a device would compile the whole tree anew.
export PYTHONDONTWRITEBYTECODE =
# Three parts that are the whole: what needs no process, no network namespace and no browser, so that all cores
# may work on it; what needs those and mostly waits, so that some may wait beside each other; and what has the
# machine to itself (ALONE in tests/conftest.py).
QUICK := not system and not namespaces and not machine
BESIDE := (system or namespaces) and not alone and not machine
ALONE := alone or machine
PYTEST_QUICK = $(PY) -m pytest -q -n 4 --dist worksteal -m "$(QUICK)"

.PHONY: help run install-hub install-device test quick style types cover bench soak fuzz image test-image test-machine lock clean audit test-update

help:
	@echo "make run     install what is missing, start hub, TURN server and one device: press c"
	@echo "make run LAN=1   the same over https for other machines of this network"
	@echo "sudo make install-hub, sudo make install-device   as a service that starts with this machine"
	@echo "make test    install what is missing, run every check and every test"
	@echo "make quick   the tests that need no process, namespace or browser: a minute"
	@echo "make style   formatter and linters        make types   mypy, strict"
	@echo "make cover   branch coverage, its floors   make bench   figures of this machine"
	@echo "make fuzz    the fuzz targets, longer     make lock    resolve the locked requirements anew"
	@echo "make soak    a day of faults in half an hour, and whether all came back"
	@echo "make image   the flashable image, arm64   make test-image   boot it in every way, an hour"
	@echo "make audit   known holes in what the lock files name; run it each night"
	@echo "make test-update    updates of the image in every way they can go wrong, an hour"
	@echo "make test-machine   the services and all that can break under them, in the virtual machine"

run:
	@scripts/setup run
	@$(PY) -m voicemeet_edge demo $(if $(LAN),--lan)

install-hub:
	@scripts/install hub

install-device:
	@scripts/install device

test:
	@scripts/setup test
	@$(MAKE) --no-print-directory -j2 --output-sync style types
	@$(PYTEST_QUICK) || scripts/second-look $$? "$(QUICK)"
	@$(PY) -m pytest -q -n 4 --dist loadgroup -m "$(BESIDE)" || scripts/second-look $$? "$(BESIDE)"
	@$(PY) -m pytest -m "$(ALONE)" || scripts/second-look $$? "$(ALONE)"

quick:
	@$(PYTEST_QUICK)

style:
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) scripts/unused
	$(PY) scripts/own-tests --named
	shellcheck scripts/setup scripts/install scripts/second-look .ci/run tests/booted/*.sh
	shellcheck -S warning -s dash image-build/initrd/init image-build/layers/*/finish \
		image-build/layers/base/files/usr/lib/voicemeet/preinit

types:
	$(PY) -m mypy

cover:
	$(PY) -m coverage erase
	$(PYTEST_QUICK) -p tests.covered -o timeout_method=signal
	$(PY) -m coverage combine -q
	$(PY) -m coverage report --skip-covered --fail-under=86
	$(PY) scripts/own-tests

bench:
	@scripts/setup test
	$(PY) -m bench

soak:
	@scripts/setup test
	$(PY) -m bench.soak --hours 24

fuzz:
	$(PY) -m tests.fuzz

image:
	image-build/build --arch arm64

test-machine:
	@scripts/setup test
	VOICEMEET_MACHINE=full $(PY) -m pytest tests/machine

# What is timed, and three machines on one wire, have the machine to themselves; then two cards at a time, a file each.
IMAGES = VOICEMEET_TEST_IMAGE=1 $(PY) -m pytest -v -rP --durations=0 --durations-min=5 -p no:cacheprovider
IMAGES_ALONE = tests/image/test_figures.py tests/image/test_call.py
IMAGES_BESIDE = tests/image/test_power.py tests/image/test_loader.py tests/image/test_arm64.py \
	tests/image/test_encryption.py tests/image/test_first_start.py tests/image/test_hub.py tests/image/test_repeatable.py
test-image:
	@scripts/setup test
	@failed=0; \
	$(IMAGES) $(IMAGES_ALONE) || failed=1; \
	$(IMAGES) -n 2 --dist loadfile --no-loadscope-reorder $(IMAGES_BESIDE) || failed=1; \
	exit $$failed

# A machine waits half of its life, so here too two at a time. What was seen is told at the end.
UPDATES = tests/image/test_update_power.py tests/image/test_update.py tests/image/test_update_reset.py \
	tests/machine/test_update.py
test-update:
	@scripts/setup test
	$(PY) -m tests.machine.system
	VOICEMEET_TEST_IMAGE=1 $(PY) -m pytest -v -rP -p no:cacheprovider -n 2 --dist loadfile --no-loadscope-reorder \
		$(UPDATES)

audit:
	@scripts/audit

lock:
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--extra hub --extra echo --extra demo pyproject.toml -o requirements/run.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--all-extras -c requirements/run.txt pyproject.toml -o requirements/dev.txt
	# What the packages carry: no demo, and of PyAV only libopus is used, which Debian has.
	for name in device hub; do \
		extra=$$([ $$name = device ] && echo "--extra mqtt" || echo "--extra mqtt --extra hub"); \
		uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
			--extra echo $$extra --no-emit-package av --no-emit-package setuptools \
			--no-emit-package pycparser -c requirements/run.txt pyproject.toml -o requirements/$$name.txt; \
	done

clean:
	rm -rf .venv .venv-realtime tests/conformance/js/node_modules supabase/node_modules \
		cloudflare/door/node_modules out
