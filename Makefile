# The two commands are `make demo` and `make test`; both set up what they need.
#   make demo [FOLDER=path] [JSON=1]   the way of a folder's files: phone, kiosk, server, and back
#   make test                          every test
#   make test-radio [SCENARIOS="a b"]  scenarios with real Bluetooth on virtual radios, as `make test` runs them too
#   make deb                           Debian packages for arm64 and amd64, into target/debian
#   make test-deb [SCENARIOS="a b"]    packages of this machine's architecture, tried in small Debians
#   make image [URL=https://…]         the image for Raspberry Pis, into target/image; URL: of the folder where it will be published
#   make test-image                    that image, tried in an emulated machine
#   make soak-image [CUTS=100 PAIRS=3]  the image on an emulated Raspberry Pi 3: power cuts, times to start, built twice; hours
#   make lint                          format, notices, clippy, documentation, all warnings denied
#   make deny                          licences, bans and sources of all dependencies, by cargo-deny
#   make advisories                    known vulnerabilities of all dependencies, where their database can be reached
#   make fuzz [MINUTES=10] [TARGETS="a b"]  every parser under libFuzzer; docs/fuzzing.md
#   make bench [FIGURES="a b"]         the figures of docs/performance.md
#   make bench-radio                   those of Bluetooth and Wi-Fi, in the radio lab
#   make build                         the programs, for use from target/debug

SHELL := /bin/bash
CARGO ?= cargo
# The last line of `make demo JSON=1` is the object, with -C too from make 4.4 on; older ones need the flag on the command line.
MAKEFLAGS += --no-print-directory
# Paths reach the shell as variables of the environment, whatever characters they have: make expands none of them.
override export FOLDER := $(value FOLDER)
ifneq ($(value CARGO_TARGET_DIR),)
override export CARGO_TARGET_DIR := $(value CARGO_TARGET_DIR)
endif
# Where cargo puts the programs; used in double quotes.
BUILT := $${CARGO_TARGET_DIR:-target}
PROGRAMS := -p waypost-gateway -p waypost-phone -p waypost-destination

.PHONY: setup build demo test test-radio test-service deb test-deb image test-image soak-image bench-radio lint bench deny advisories fuzz

setup:
	@tests/tools/setup.sh

build: setup
	@$(CARGO) build --locked $(PROGRAMS)

demo: setup
	@$(CARGO) build --locked --quiet $(PROGRAMS)
	@"$(BUILT)/debug/waypost" demo $(if $(JSON),--json) $${FOLDER:+-- "$$FOLDER"}

test: setup
	@tests/tools/step.sh "build" $(CARGO) build --locked --workspace --all-targets
	@CARGO="$(CARGO)" tests/tools/step.sh "unit tests and scenarios" tests/tools/both-halves.sh
	@tests/tools/step.sh "radio lab" tests/radio-lab/run.sh --built || [ $$? -eq 77 ]
	@tests/tools/step.sh "service" tests/radio-lab/run.sh --service --built || [ $$? -eq 77 ]
	@tests/tools/step.sh "Debian packages, tried" tests/packages/run.sh --built || [ $$? -eq 77 ]
	@tests/tools/step.sh "image, tried" images/try.sh || [ $$? -eq 77 ]

# Each by its name in tests/radio-lab/scenarios.
test-radio: setup
	@tests/tools/step.sh "radio lab" tests/radio-lab/run.sh $(SCENARIOS)

# The unit that admins are given, under a real systemd; each by its name in tests/radio-lab/service.
test-service: setup
	@tests/tools/step.sh "service" tests/radio-lab/run.sh --service $(SCENARIOS)

# The first time with a cross compiler, Rust's library and Debian's for arm64: images/cross.
deb: setup
	@tests/tools/step.sh "Debian packages" images/packages.sh
	@tests/tools/step.sh "packages for arm64, looked at" tests/packages/arm64.sh "$(BUILT)/debian"
	@tests/tools/step.sh "packages, by lintian" tests/packages/run.sh --release lintian || [ $$? -eq 77 ]

# BUILT=1 takes the programs as `make test` has just built them; ARM64=1 looks at the packages for arm64 besides, as
# `make deb` has left them.
test-deb: setup
	@tests/tools/step.sh "Debian packages, tried" tests/packages/run.sh $(if $(BUILT),--built) $(if $(ARM64),--arm64) $(SCENARIOS)

# For Raspberry Pis; as root. The first time with all that `make deb` needs besides, and Debian under emulation.
image: setup
	@tests/tools/step.sh "image" images/build.sh --url "$(URL)"

# The image as whoever flashes it has it, in an emulated machine: one file, documents, power cuts.
test-image: setup
	@$(CARGO) build --locked --workspace --all-targets
	@tests/tools/step.sh "image, tried" images/try.sh

# What it prints is kept in target/image/soak.jsonl, a line for every start, which has twenty cuts.
soak-image: setup
	@$(CARGO) build --locked --workspace --all-targets
	@rm -f "$(BUILT)/image/soak.jsonl"
	@tests/tools/step.sh "image, built twice" images/twice.sh
	@WAYPOST_CUTS="$(CUTS)" WAYPOST_PAIRS="$(PAIRS)" tests/tools/step.sh "image, soaked" images/run-tests.sh soak_image

# Our links against bare ones, both in one guest: a JSON object for each figure.
bench-radio: setup
	@set -o pipefail; tests/tools/step.sh "radio bench" tests/radio-lab/run.sh --bench | python3 tests/radio-lab/figures.py

lint: setup
	@tests/tools/step.sh "format" $(CARGO) fmt --all --check
	@tests/tools/step.sh "third-party notices" tests/tools/third-party.sh --check
	@tests/tools/step.sh "clippy" $(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" tests/tools/step.sh "docs" $(CARGO) doc --locked --workspace --no-deps --quiet

deny: setup
	@tests/tools/cargo-tool.sh cargo-deny ^0.20
	@PATH="$(BUILT)/tools/bin:$$PATH" tests/tools/step.sh "licences, bans, sources" \
	    $(CARGO) deny --locked check bans licenses sources

advisories: setup
	@tests/tools/cargo-tool.sh cargo-deny ^0.20
	@PATH="$(BUILT)/tools/bin:$$PATH" CARGO="$(CARGO)" tests/tools/step.sh "advisories" tests/tools/advisories.sh

fuzz: setup
	@CARGO="$(CARGO)" tests/tools/step.sh "fuzzing" tests/fuzz/run.sh "$(or $(MINUTES),10)" $(TARGETS)

bench: setup
	@$(CARGO) build --locked --release --workspace
	@"$(BUILT)/release/waypost-bench" $(FIGURES)
