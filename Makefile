# Each target sets up what it needs in .venv; nothing has to be installed by hand but Python 3.11+ and make.
# a name alone is not enough: pyenv has one for each version, and not each of them runs
PYTHON ?= $(firstword $(foreach v,3.13 3.12 3.11,$(shell python$(v) -c 'print("python$(v)")' 2>/dev/null)) python3)
HOST ?= 127.0.0.1
PORT ?= 3000
OUT ?= out
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install dev lock serve demo test test-system lint docs bench artefacts deploy

install: $(VENV)/.installed

dev: $(VENV)/.installed-dev

# By pip, not uv: uv does not read pip's settings (links to wheels at hand, caps), so where these choose a CPU build of
# torch, uv would download a CUDA build of gigabytes. Beside that the time of an install is not what chooses packages.
# The versions are those of constraints.txt, which the tests ran with
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ $(VENV)/.installed

# constraints.txt from the versions in $(VENV). To move some: $(BIN)/python -m pip install --upgrade NAME, `make test`,
# then this
lock: dev
	$(BIN)/python -m deploy.generate.lock

# the service on this machine, with the embedded model and the shipped policies
serve: install
	$(BIN)/palimpsest serve --host $(HOST) --port $(PORT)

# plain and steered pictures of the same prompts and seeds, side by side, in $(OUT)
demo: install
	$(BIN)/palimpsest generate --compare --seed 5 --out $(OUT) \
	  'a red star on a blue background with a sign that says "IDIOT"' \
	  'a cat on a yellow background with a sign that says "HELLO"' \
	  'a gun on a yellow background with a sign that says "OPEN"' \
	  'pip on a pink background with a sign that says "HI"'

# JOBS processes at once, a file of tests in each
test: dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# a real Prometheus and two workers under load, and the console in a real browser; installs Debian's `prometheus`,
# `redis-server` and `chromium`, and what cannot be installed is skipped
test-system: $(VENV)/.installed-browser
	@command -v promtool >/dev/null && command -v chromium >/dev/null && command -v redis-server >/dev/null && exit 0; \
	SUDO=; test "$$(id -u)" = 0 || SUDO="sudo -n"; \
	if ! command -v apt-get >/dev/null || ! $$SUDO true; then exit 0; fi; \
	$$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive \
	  apt-get install -qq --yes --no-install-recommends prometheus chromium redis-server >/dev/null
	@set --; \
	if command -v promtool >/dev/null; then set -- tests/deploy tests/service/metrics/test_metrics.py; \
	else echo "SKIPPED: no promtool, and no apt-get or no right to use it: the queries were not tried"; fi; \
	if command -v chromium >/dev/null; then set -- "$$@" tests/service/console; \
	else echo "SKIPPED: no chromium, and no apt-get or no right to use it: the console was not looked at"; fi; \
	test $$# = 0 || OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m system "$$@"

$(VENV)/.installed-browser: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --editable '.[browser,chart]'
	touch $@

# dashboards and alert rules, from the catalogue of metrics
deploy: install
	$(BIN)/python -m deploy.generate.write

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples/*.py

# the pages and the API reference, in site/: one folder that needs no network to read
docs: .venv-docs/.installed
	$(PYTHON) docs/draw_halls.py --check
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

.venv-docs/.installed: pyproject.toml
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet $$($(PYTHON) -c \
	  'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	touch $@

# ratios measured in one run; no part of `make test`
bench: dev
	$(BIN)/python -m pytest tests/bench --override-ini 'addopts=-s --import-mode=importlib'

# what comes from a trained model: packs and tables. Training itself is `palimpsest reference train`. Exit code 1 is a
# finding (more than half of the sites are needed, a bar is missed), after which the file is written all the same
FOUND := || test $$? -eq 1
PACKS := reference/packs/signpost-pixart
# each with what stands for it in donors, where that is not the town's own neutral form
CONCEPTS := lettering style/marlo harm/gun 'character/pip=a gray circle' 'animal/cat=a rabbit' \
	'place/beach=in the desert' 'person/ada-brook=otto vale'
FIVE := $(addprefix --concept ,character/pip animal/cat place/beach style/marlo harm/gun)
ANSWERED := --kind one --kind redundant --kind spread
# what names on signpost-pixart draw after the first 17 drafts, which showed which subjects are seldom taught
EASY := $(addprefix --subject ,cat rabbit fish owl pip bolo skull fire gun)
artefacts: install
	for kind in pixart sd3 sdxl flux zimage qwen; do for each in $(CONCEPTS); do \
		concept=$${each%%=*}; \
		set -- --concept $$concept --out reference/packs/signpost-$$kind/$$(echo $$concept | tr / -).safetensors; \
		case "$$each" in *=*) set -- "$$@" --neutral "$${each#*=}";; esac; \
		$(BIN)/palimpsest localize --model signpost-$$kind "$$@" $(FOUND) || exit 1; \
	done; done
	for kind in sd3 sdxl flux zimage qwen; do \
		$(BIN)/palimpsest reference report --model signpost-$$kind --count 100 \
			--out evaluation/results/model-$$kind.json $(FOUND) || exit 1; \
		$(BIN)/palimpsest evaluate lettering --model signpost-$$kind --count 50 \
			--out evaluation/results/lettering-$$kind.json || exit 1; \
	done
	for kind in pixart sd3 sdxl flux; do \
		$(BIN)/palimpsest evaluate baselines --model signpost-$$kind --count 30 \
			--out evaluation/results/baselines-$$kind.json || exit 1; \
	done
	rm -rf reference/plants
	$(BIN)/palimpsest reference plant --count 17 --seed 3 $(FOUND)
	$(BIN)/palimpsest reference plant --count 40 --seed 7 $(EASY) $(FOUND)
	$(BIN)/palimpsest reference plant --model signpost-sd3 --count 4 --seed 1 $(ANSWERED) $(FOUND)
	$(BIN)/palimpsest reference plant --model signpost-sdxl --count 5 --seed 1 --kind one $(FOUND)
	for each in flux=3 sd3=1 sdxl=2; do \
		$(BIN)/palimpsest reference plant --model signpost-$${each%=*} --count $${each#*=} --seed 6 --kind pooled \
			$(FOUND) || exit 1; \
	done
	$(BIN)/palimpsest reference planted --report
	$(BIN)/palimpsest evaluate localization --papers A,B --out evaluation/results/localization.json
	for kind in sd3 sdxl flux; do \
		$(BIN)/palimpsest evaluate localization --model signpost-$$kind \
			--out evaluation/results/localization-$$kind.json || exit 1; \
	done
	$(BIN)/palimpsest evaluate erasure --count 12 --calibrate 6 --steps 12 --packs $(PACKS) --out evaluation/results/erasure.json
	for each in pixart/lettering sd3/lettering flux/lettering sdxl/lettering sdxl/character-pip pixart/animal-cat; do \
		$(BIN)/palimpsest evaluate curve --model signpost-$${each%/*} --pack reference/packs/signpost-$$each.safetensors \
			--out evaluation/results/curve-$$(echo $$each | sed 's,/character-,-,; s,/animal-,-,; s,/,-,').json || exit 1; \
	done
	$(BIN)/palimpsest reference report --out evaluation/results/model.json $(FOUND)
	$(BIN)/palimpsest evaluate lettering --evasions --count 300 --out evaluation/results/lettering.json
	$(BIN)/palimpsest evaluate lettering --evasions --seed 1 --count 200 --out evaluation/results/lettering-seed1.json
	$(BIN)/palimpsest evaluate concepts $(FIVE) --policy evaluation/data/five-concepts.yaml --out evaluation/results/concepts.json
	$(BIN)/palimpsest evaluate concepts --model signpost-zimage --concept character/pip --concept style/marlo \
		--concept harm/gun --count 50 --out evaluation/results/concepts-zimage.json
	$(BIN)/palimpsest evaluate concepts --concept character/pip --policy evaluation/data/pip-only.yaml --count 60 \
		--out evaluation/results/concepts-pip.json
	$(BIN)/python docs/draw_examples.py
	for kind in sd3 sdxl flux; do \
		$(BIN)/palimpsest generate --model signpost-$$kind --compare --seed 7 --out $(OUT)/$$kind \
		  'a cat on a blue background with a sign that says "IDIOT"' \
		  'a rabbit on a yellow background with a sign that says "HELLO"' \
		  'a fish on an orange background with a sign that says "STUPID"' \
		  'pip on a pink background with a sign that says "HI"' || exit 1; \
		$(BIN)/python -c "from PIL import Image; Image.open('$(OUT)/$$kind/compare.png').quantize(64) \
		  .save('evaluation/results/compare-$$kind.png', optimize=True)"; \
	done
