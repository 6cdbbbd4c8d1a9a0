# `make serve` serves, `make test` tests everything, `make test-fast` is for daily work. `make help` lists the rest.
# Plain assignments: only the command line changes them, not a HOST that some shell exports.
HOST = 127.0.0.1
PORT = 8000
PYTHON = python3
SERVE_ENV = .venv-serve
DEV_ENV = .venv
AUDIT_ENV = .venv-audit
DOCS_ENV = .venv-docs
# An NVIDIA GPU whose driver answers gets onnxruntime-gpu, anything else onnxruntime; never both.
DEVICE := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
EXTRAS =
SERVE_LOCKS = requirements/serve-$(DEVICE).txt $(EXTRAS:%=requirements/%.txt)
SERVE_STAMP = $(SERVE_ENV)/.$(subst $() ,-,$(strip $(DEVICE) $(EXTRAS)))
# The suite runs in so many processes, each file in one; a process may take 5 GB.
WORKERS = 2

.DEFAULT_GOAL := help
.PHONY: help serve test test-fast coverage test-integration client-test typescript-test ray-test bridge-test lint fuzz hostile fairness rolling soak bench bench-train bench-gpu bench-replicas train-env openapi pages docs lock bench-lock docker-test proxy-test sbom audit clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

serve: $(SERVE_STAMP) ## install what serving needs and serve the shipped model (HOST=, PORT=, EXTRAS="dicom grpc heif otel")
	DERMASERVE_HOST=$(HOST) DERMASERVE_PORT=$(PORT) DERMASERVE_LOG_FORMAT=$${DERMASERVE_LOG_FORMAT:-text} \
		$(SERVE_ENV)/bin/python -m service

test: $(DEV_ENV)/.installed ## lint, types, OpenAPI drift and the whole suite
	$(MAKE) --no-print-directory lint
	$(DEV_ENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile

FAST = -q -n $(WORKERS) --dist loadfile -m "not bench and not browser and not deploy and not process and not training"
test-fast: $(DEV_ENV)/.installed ## ruff, and the tests without training, browser and programs of their own: two minutes
	$(DEV_ENV)/bin/ruff check .
	$(DEV_ENV)/bin/python -m pytest $(FAST)

coverage: $(DEV_ENV)/.installed ## the tests of models and service; fails if they run too few of the lines
	$(DEV_ENV)/bin/python -m pytest -q -n $(WORKERS) --dist loadfile -m "not bench and not browser and not deploy and not training" --cov --cov-report=term-missing:skip-covered

test-integration: docker-test proxy-test client-test typescript-test ray-test bridge-test ## what needs more than this machine's Python: the containers (needs Docker), the proxy, clients of other projects, Ray, the DICOM bridge

ray-test: .venv-ray/.installed ## predict --ray on a Ray cluster of two local nodes (IMAGES=2000)
	$(dir $<)bin/python -m pytest -x -s -p no:cacheprovider tests/cluster/parquet_files.py tests/cluster/ray_cluster.py

lint: $(DEV_ENV)/.installed ## ruff and mypy
	$(DEV_ENV)/bin/ruff check .
	$(DEV_ENV)/bin/ruff format --check .
	$(DEV_ENV)/bin/mypy

# The long tests: each a program of its own, with --help. ARGS= gives it options.
fuzz: $(DEV_ENV)/.installed ## 100,000 damaged images and forms through the decoders (ARGS="--seed 2")
	nice $(DEV_ENV)/bin/python -m tests.long.fuzz $(ARGS)

hostile: $(DEV_ENV)/.installed ## 10,000 requests, a third of them hostile, without and with API keys
	$(DEV_ENV)/bin/python -m tests.long.hostile $(ARGS)
	$(DEV_ENV)/bin/python -m tests.long.hostile --keys $(ARGS)

rolling: $(DEV_ENV)/.installed ## restarts, reloads, crashes and lack of memory under load: what clients see of them
	$(DEV_ENV)/bin/python -m tests.long.rolling $(ARGS)
	$(DEV_ENV)/bin/python -m tests.long.crash $(ARGS)
	$(DEV_ENV)/bin/python -m tests.long.out_of_memory $(ARGS)

fairness: $(DEV_ENV)/.installed ## how long a client waits while another attacks; needs an idle machine
	$(DEV_ENV)/bin/python -m tests.long.fairness $(ARGS)

# Seconds.
DURATION = 1800
soak: $(DEV_ENV)/.installed ## half an hour at 80 % of the capacity, memory and latency measured (DURATION=)
	$(DEV_ENV)/bin/python -m tests.long.soak --seconds $(DURATION) $(ARGS)

# Servers to compare with, each in an environment of its own; one that cannot be installed is left out.
PEERS = $(basename $(notdir $(wildcard bench/peers/requirements/*.txt)))
bench: $(DEV_ENV)/.installed $(SERVE_STAMP) ## this service beside others and the machine's limit, an hour (PEERS=, ARGS=)
	$(if $(PEERS),-$(MAKE) --no-print-directory --keep-going $(PEERS:%=.venv-bench-%/.installed))
	$(DEV_ENV)/bin/python -m bench --python $(SERVE_ENV)/bin/python --peers $(PEERS) $(ARGS)

bench-train: $(DEV_ENV)/.installed ## what training costs: 25 minutes on two cores
	$(DEV_ENV)/bin/python -m bench.train $(ARGS)

bench-gpu: .venv-bench-gpu/.installed ## graph and service on an NVIDIA GPU (ARGS=)
	.venv-bench-gpu/bin/python -m bench.gpu $(ARGS)

bench-replicas: $(DEV_ENV)/.installed ## one process beside several behind HAProxy, ten minutes; needs an idle machine (ARGS=)
	$(DEV_ENV)/bin/python -m bench.replicas $(ARGS)

train-env: $(DEV_ENV)/.installed ## install what training and tests need into .venv

openapi: $(DEV_ENV)/.installed ## write openapi/openapi.json from the code
	$(DEV_ENV)/bin/python -m service openapi > openapi/openapi.json

RULE = deploy/kubernetes/monitoring/prometheus-rule.yml
pages: $(DEV_ENV)/.installed ## write the files that others generate: settings, recipes, alert rules for Kubernetes
	$(DEV_ENV)/bin/python -m service settings > docs/settings.md
	$(DEV_ENV)/bin/python -m training recipes --markdown > docs/recipes.md
	{ sed '/^spec:$$/q' $(RULE) && sed 's/^./  &/' deploy/prometheus/rules.yml; } > $(RULE).new && mv $(RULE).new $(RULE)

# The documents and the files that they link to, in their own folders, so that links work as they do on a forge.
DOCUMENTS = '*.md' 'docs/*' 'bench/results/*' 'models/*/report/*' LICENSE 'models/*/LICENSE' CITATION.cff openapi deploy/prometheus/rules.yml \
	deploy/grafana/dashboards deploy/haproxy deploy/kubernetes service/bridge/codes.csv tests/deploy/rules_test.yml tests/test_imports.py training/export/graph.py
docs: $(DOCS_ENV)/.installed ## build the documents as a site in build/site, strictly
	rm -rf build/docs build/site
	mkdir -p build/docs
	git ls-files -z -- $(DOCUMENTS) ':!.github' | tar -c --null -T - | tar -x -C build/docs
	NO_MKDOCS_2_WARNING=1 $(DOCS_ENV)/bin/mkdocs build --quiet --strict
	@echo "build/site/index.html"

lock: $(DEV_ENV)/.installed ## renew the hashed lock files in requirements/
	$(DEV_ENV)/bin/python -m pip install -q uv
	$(LOCK) --extra cpu --extra dicom --extra grpc --extra heif --extra otel --extra train --extra dev -o requirements/dev.txt
	$(LOCK) --extra cpu -c requirements/dev.txt -o requirements/serve-cpu.txt
	$(LOCK) --extra gpu -c requirements/dev.txt -o requirements/serve-gpu.txt
	$(LOCK) --extra dicom -c requirements/dev.txt -o requirements/dicom.txt
	$(LOCK) --extra dicom-bridge -c requirements/dev.txt -o requirements/dicom-bridge.txt
	$(LOCK) --extra grpc -c requirements/dev.txt -o requirements/grpc.txt
	$(LOCK) --extra heif -c requirements/dev.txt -o requirements/heif.txt
	$(LOCK) --extra otel -c requirements/dev.txt -o requirements/otel.txt
	$(LOCK) --extra cpu --extra ray --group ray-test $(SERVED) -o requirements/ray-test.txt
	$(LOCK) --extra ray $(SERVED) -c requirements/ray-test.txt -o requirements/ray.txt
	$(COMPILE) --group audit -o requirements/audit.txt
	$(COMPILE) --group docs -c requirements/dev.txt -o requirements/docs.txt
	for name in kserve mlserver; do \
		$(COMPILE) --no-strip-extras tests/clients/requirements/$$name.in -o tests/clients/requirements/$$name.txt; \
	done
	$(LOCK) bench/gpu-requirements.in --extra gpu -c requirements/dev.txt -o bench/gpu-requirements.txt
	$(LOCK) tests/archive/requirements.in --extra cpu --extra dicom --extra dicom-bridge -c requirements/dev.txt \
		-o tests/archive/requirements.txt

# What decides the cost of an image is of our version, the rest of each peer's own choice.
bench-lock: $(DEV_ENV)/.installed ## renew the hashed locks of the servers that bench compares with (PEERS=)
	$(DEV_ENV)/bin/python -m pip install -q uv
	set -e; for name in $(PEERS); do \
		sed -nE 's/^((keras|numpy|onnxruntime|pillow|tensorflow)==[^\\]*).*/\1/p' requirements/dev.txt | \
		$(COMPILE) --no-strip-extras -c - bench/peers/requirements/$$name.in \
			-o bench/peers/requirements/$$name.txt; \
	done

LOCK = $(COMPILE) pyproject.toml
# Not those of dev.txt: moto, an S3 server to test with, needs an older python-dateutil.
SERVED = -c requirements/serve-cpu.txt -c requirements/dicom.txt -c requirements/otel.txt
COMPILE = $(DEV_ENV)/bin/uv pip compile -q --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate

docker-test: $(DEV_ENV)/.installed ## build the image, start all of docker-compose.yml, try it, stop it (needs Docker)
	$(DEV_ENV)/bin/python -m pytest -x -s tests/deploy/docker_stack.py tests/deploy/docker_proxy.py

proxy-test: $(DEV_ENV)/.installed ## three services behind HAProxy under load: stopped, killed, reloaded (needs haproxy, curl, openssl)
	$(DEV_ENV)/bin/python -m pytest -x -s tests/deploy/replicas.py

client-test: $(DEV_ENV)/.installed .venv-clients-kserve/.installed .venv-clients-mlserver/.installed ## clients of Triton, KServe and MLServer against the service
	$(DEV_ENV)/bin/python -m pytest -x -s tests/clients/real_clients.py

typescript-test: $(DEV_ENV)/.installed ## a TypeScript client generated from openapi.json against the service (needs Node 20 and npm)
	$(DEV_ENV)/bin/python -m pytest -x -s tests/clients/typescript_client.py

bridge-test: .venv-bridge/.installed ## the DICOM bridge and Debian's Orthanc (needs orthanc, orthanc-dicomweb and dcmtk)
	.venv-bridge/bin/python -m pytest -x tests/archive/test_report.py tests/archive/test_bridge.py tests/archive/orthanc_bridge.py

sbom: ## build the image and write sbom.cdx.json, what is installed in it (needs Docker)
	docker build -t dermaserve .
	docker run --rm --network none dermaserve cat /opt/sbom.cdx.json > sbom.cdx.json

# --strict: without it a database that cannot be reached would pass for one without findings.
audit: $(AUDIT_ENV)/.installed ## look all locked packages up among the known vulnerabilities (needs the internet)
	$(AUDIT_ENV)/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
		$(addprefix -r ,$(wildcard requirements/*.txt))

clean: ## remove the environments and caches
	rm -rf $(SERVE_ENV) $(DEV_ENV) $(AUDIT_ENV) $(DOCS_ENV) .venv-ray .venv-bridge .venv-bench-* .venv-clients-* build .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis

NEW_ENV = $(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else \
	"Python 3.11, 3.12 or 3.13 is needed, this is %d.%d: make PYTHON=python3.13 ..." % v)' && $(PYTHON) -m venv

# A stamp says which locks an environment was made from; a new lock, device or extra makes it anew.
$(SERVE_STAMP): $(SERVE_LOCKS)
	rm -rf $(SERVE_ENV)
	$(NEW_ENV) $(SERVE_ENV)
	$(SERVE_ENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes $(SERVE_LOCKS:%=-r %)
	touch $@

$(DEV_ENV)/.installed: requirements/dev.txt
	rm -rf $(DEV_ENV)
	$(NEW_ENV) $(DEV_ENV)
	$(DEV_ENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	touch $@

.venv-clients-%/.installed: tests/clients/requirements/%.txt
	rm -rf $(@D)
	$(NEW_ENV) $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	touch $@

$(AUDIT_ENV)/.installed: requirements/audit.txt
	rm -rf $(AUDIT_ENV)
	$(NEW_ENV) $(AUDIT_ENV)
	$(AUDIT_ENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	touch $@

$(DOCS_ENV)/.installed: requirements/docs.txt
	rm -rf $(DOCS_ENV)
	$(NEW_ENV) $(DOCS_ENV)
	$(DOCS_ENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	touch $@

.venv-ray/.installed: requirements/ray-test.txt
	rm -rf $(@D)
	$(NEW_ENV) $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	touch $@

.venv-bench-gpu/.installed: bench/gpu-requirements.txt
	rm -rf $(@D)
	$(NEW_ENV) $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	touch $@

.venv-bridge/.installed: tests/archive/requirements.txt
	rm -rf $(@D)
	$(NEW_ENV) $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	touch $@

.venv-bench-%/.installed: bench/peers/requirements/%.txt
	rm -rf $(@D)
	$(NEW_ENV) $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	touch $@
