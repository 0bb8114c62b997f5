#!/usr/bin/env bash
# Installs what the tests need, builds, runs the tests. The last line is `N passed, N failed, N skipped`.
#
#   ./test.sh                     every suite but slow
#   ./test.sh unit e2e            these suites: lint unit kernels golden e2e fuzz fault slow gpu
#   ./test.sh --slow              the slow suite too
#   ./test.sh --sanitize          the same under ASan and UBSan, then unit tests and server under TSan
#   ./test.sh references          computes the stored references again (needs torch and transformers)
#
# Exit code 1 when a test failed or none ran. Details are in build/test/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./run.sh

ALL_SUITES=(lint unit kernels golden e2e fuzz fault gpu)
KNOWN_SUITES=" ${ALL_SUITES[*]} slow references "
RESULTS=$PWD/build/test
VENV=$PWD/build/venv

TEST_NEEDS='
test -e /usr/include/cmocka.h|libcmocka-dev
test -e /usr/include/simde/x86/avx2.h|libsimde-dev
'"$python"' -m ensurepip --version|python3-venv
'

# The kernels of ARM on another processor.
ARM_NEEDS='
command -v aarch64-linux-gnu-gcc|gcc-aarch64-linux-gnu
test -e /usr/aarch64-linux-gnu/include/stdio.h|libc6-dev-arm64-cross
command -v qemu-aarch64|qemu-user
'

passed=0 failed=0 skipped=0

add_counts() {
    local p f s
    read -r p f s <<<"$1"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# A virtual environment with tests/requirements.txt, and the Node SDK. Kept while their lists stay the same.
install_sdks() {
    local stamp
    stamp=$(sha256sum tests/requirements.txt tests/package.json)
    if [ -x "$VENV/bin/pytest" ] && [ -d build/node_modules/openai ] && [ "$(cat build/sdks.txt 2>/dev/null)" = "$stamp" ]; then
        return 0
    fi
    STEP="installing the test packages"
    say "installing the test packages into build/venv and build/node_modules"
    [ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV"
    quietly build/pip.log "$VENV/bin/python" -m pip install --disable-pip-version-check -r tests/requirements.txt
    cp tests/package.json build/package.json
    (cd build && PATH="$VENV/bin:$PATH" quietly npm.log npm install --no-audit --no-fund --loglevel=error)
    printf '%s' "$stamp" >build/sdks.txt
}

# Whether folder $1 has tests of meson suite $2.
has_meson_suite() {
    meson introspect --tests "$1" | "$python" -c '
import json, sys
wanted = sys.argv[1]
sys.exit(not any(s.split(":")[-1] == wanted for t in json.load(sys.stdin) for s in t["suite"]))' "$2"
}

# $1: build folder, $2: suite, $3: name of the result.
run_meson_suite() {
    local folder=$1 suite=$2 name=$3 code=0
    rm -f "$folder/meson-logs/$name.json"
    # Tests of kernels and of the thread pool want the cores for themselves: two at a time.
    "${PREFIX[@]}" meson test -C "$folder" --suite "$suite" --no-rebuild --num-processes 2 --logbase "$name" \
        --timeout-multiplier "$PATIENCE" >"$RESULTS/$name.txt" 2>&1 || code=$?
    if [ ! -s "$folder/meson-logs/$name.json" ]; then
        tail -n 20 "$RESULTS/$name.txt" >&2
        add_counts "0 1 0"
    else
        add_counts "$("$python" tests/count.py "$folder/meson-logs/$name.json")"
    fi
}

# $1: name of the result, then arguments of pytest.
run_pytest() {
    local name=$1 code=0
    shift
    rm -f "$RESULTS/$name.xml"
    PATH="$VENV/bin:$PATH" PYTHONDONTWRITEBYTECODE=1 "${PREFIX[@]}" "$VENV/bin/pytest" -q -p no:cacheprovider --junitxml="$RESULTS/$name.xml" \
        -o junit_logging=no --no-header --tb=short "$@" >"$RESULTS/$name.txt" 2>&1 || code=$?
    if [ ! -s "$RESULTS/$name.xml" ] || { [ "$code" -gt 1 ] && [ "$code" -ne 5 ]; }; then
        tail -n 40 "$RESULTS/$name.txt" >&2
        add_counts "0 1 0"
        return 0
    fi
    if [ "$code" -eq 1 ]; then
        tail -n 80 "$RESULTS/$name.txt" >&2
    fi
    add_counts "$("$python" tests/count.py "$RESULTS/$name.xml")"
}

# One suite in build folder $2: its meson programs, then its pytest folder.
run_suite() {
    local suite=$1 folder=$2 before start ran=0
    before=$((passed + failed + skipped))
    start=$SECONDS
    STEP="running the suite $suite"
    if has_meson_suite "$folder" "$suite"; then
        run_meson_suite "$folder" "$suite" "$LABEL$suite"
        ran=1
    fi
    if compgen -G "tests/$suite/test_*.py" >/dev/null; then
        run_pytest "$LABEL$suite-py" "tests/$suite" -m "not slow and not gpu"
        ran=1
    fi
    case "$suite" in
    slow | gpu)
        if grep -rqs "mark\.$suite" tests --include='test_*.py'; then
            run_pytest "$LABEL$suite-marked" tests/golden tests/e2e tests/fuzz tests/fault -m "$suite"
            ran=1
        elif [ "$ran" -eq 0 ]; then
            say "suite $suite: no test needs it in this version"
        fi
        ;;
    esac
    if [ "$suite" = gpu ] && ! command -v nvidia-smi >/dev/null; then
        say "suite gpu: skipped, there is no GPU here"
        [ $((passed + failed + skipped)) -ne "$before" ] || skipped=$((skipped + 1))
    fi
    say "suite $LABEL$suite: $((passed + failed + skipped - before)) tests in $((SECONDS - start)) s"
}

# The kernels suite once more for 64-bit ARM, under emulation, where the processor is another.
run_arm_kernels() {
    local start=$SECONDS before
    if [ "$(uname -m)" = aarch64 ]; then
        return 0
    fi
    if ! (install_needs "$ARM_NEEDS"); then
        say "suite kernels for ARM: skipped, there is no cross compiler or no emulator: the NEON kernels are NOT tested"
        skipped=$((skipped + 1))
        return 0
    fi
    configure build/aarch64 --cross-file tests/kernels/aarch64.ini --buildtype=release -Dkernels_only=true
    build build/aarch64
    STEP="running the kernels of ARM"
    before=$((passed + failed + skipped))
    run_meson_suite build/aarch64 kernels arm-kernels
    say "suite kernels for ARM: $((passed + failed + skipped - before)) tests in $((SECONDS - start)) s"
}

recompute_references() {
    local runner=$python code=0
    if ! "$runner" -c 'import torch, transformers' 2>/dev/null; then
        runner=python3
    fi
    if ! "$runner" -c 'import torch, transformers' 2>/dev/null; then
        say "references: skipped, torch and transformers are not installed"
        skipped=$((skipped + 1))
        return 0
    fi
    STEP="computing the references"
    "$runner" tests/golden/recompute.py >&2 || code=$?
    if [ "$code" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

run_plain() {
    PREFIX=() PATIENCE=1 LABEL=
    configure build --buildtype=release -Dtests=true
    build build
    for suite in "$@"; do
        run_suite "$suite" build
        [ "$suite" != kernels ] || run_arm_kernels
    done
}

run_sanitized() {
    PREFIX=() PATIENCE=6 LABEL=asan-
    export ASAN_OPTIONS=detect_leaks=1:quarantine_size_mb=16:halt_on_error=1:detect_stack_use_after_return=1:allocator_may_return_null=1
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    configure build/sanitize --buildtype=debugoptimized -Dtests=true -Db_sanitize=address,undefined -Db_lundef=false
    build build/sanitize
    export PHID_BIN=$PWD/build/sanitize/phid PHID_TEST_PATIENCE=6
    for suite in "$@"; do
        run_suite "$suite" build/sanitize
    done
    # TSan needs addresses where it expects them.
    if setarch -R true 2>/dev/null; then PREFIX=(setarch -R); fi
    PATIENCE=10 LABEL=tsan-
    export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:allocator_may_return_null=1
    export PHID_BIN=$PWD/build/tsan/phid PHID_TEST_PATIENCE=10
    case " $* " in
    *" unit "* | *" e2e "*)
        configure build/tsan --buildtype=debugoptimized -Dtests=true -Db_sanitize=thread -Db_lundef=false
        build build/tsan
        ;;
    esac
    case " $* " in *" unit "*) run_suite unit build/tsan ;; esac
    case " $* " in *" e2e "*) run_pytest tsan-e2e-py tests/e2e/test_http.py tests/e2e/test_hostile.py ;; esac
}

main() {
    local sanitize=0 suites=() slow=0 argument
    for argument in "$@"; do
        case "$argument" in
        -h | --help)
            sed -n '2,10s/^# \{0,1\}//p' test.sh
            return 0
            ;;
        --sanitize) sanitize=1 ;;
        --slow) slow=1 ;;
        -*)
            say "unknown option $argument; ./test.sh --help lists them"
            return 2
            ;;
        *)
            if [[ "$KNOWN_SUITES" != *" $argument "* ]]; then
                say "unknown suite $argument; known:$KNOWN_SUITES"
                return 2
            fi
            suites+=("$argument")
            ;;
        esac
    done
    if [ ${#suites[@]} -eq 0 ]; then
        suites=("${ALL_SUITES[@]}")
    fi
    if [ "$slow" -eq 1 ]; then
        suites+=(slow)
    fi
    install_needs "$BUILD_NEEDS"
    install_needs "$TEST_NEEDS"
    mkdir -p "$RESULTS"
    if [[ " ${suites[*]} " == *" references "* ]]; then
        recompute_references
        suites=("${suites[@]/references/}")
        suites=(${suites[@]})
    fi
    if [ ${#suites[@]} -gt 0 ]; then
        install_sdks
        get_demo_model || say "the demo model could not be had: tests that need it will fail"
        if [ "$sanitize" -eq 1 ]; then
            run_sanitized "${suites[@]}"
        else
            run_plain "${suites[@]}"
        fi
    fi
    STEP="running the tests"
    echo "$passed passed, $failed failed, $skipped skipped"
    trap - EXIT
    if [ "$failed" -gt 0 ] || [ "$passed" -eq 0 ]; then
        return 1
    fi
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    main "$@"
fi
