#!/usr/bin/env bash
# Names what this machine lacks for the set-up, and installs it where that is possible.
#   check.sh [--drawing | --rendering] [--install] [PYTHON]
# --drawing: also look for what the simulator draws with, off-screen OpenGL.
# --rendering: also look for all that tests render with: that, and a browser for the report.
# --install: install the missing Debian packages: at once as root without a terminal, as in a container; with a terminal,
#            after a question.
# Exit code 2 if something is missing without which nothing can be built, or with --drawing nothing can be drawn.
set -u

python=python3
drawing=no
browser=no
install=no
for argument in "$@"; do
    case $argument in
        --drawing) drawing=yes ;;
        --rendering) drawing=yes browser=yes ;;
        --install) install=yes ;;
        *) python=$argument ;;
    esac
done

# Adds what is missing to the lists, with the Debian packages that bring it.
lacks() {
    missing+=("$1")
    packages+=("${@:2}")
}

# A snap, as Ubuntu's Chromium is, does not count: it sees neither /tmp nor hidden folders, where the tests' pages lie.
has_browser() {
    compgen -G "${PLAYWRIGHT_BROWSERS_PATH:-${HOME:-}/.cache/ms-playwright}/chromium-*" >/dev/null && return
    local name path
    for name in chromium google-chrome google-chrome-stable; do
        path=$(command -v "$name") && [[ $path != /snap/* ]] && return
    done
    return 1
}

has_python() { "$python" -c "$1" >/dev/null 2>&1; }

look_for_tools() {
    if ! command -v "$python" >/dev/null; then
        lacks "Python 3.10 or newer ($python is not on the PATH)" python3 python3-venv python3-dev
    elif ! has_python 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        lacks "Python 3.10 or newer ($python is $("$python" --version 2>&1); with another one: make PYTHON=python3.11)"
    elif [ -z "${ROS_DISTRO:-}" ] && ! has_python 'import sys; sys.exit(sys.version_info >= (3, 14))'; then
        lacks "Python 3.10 to 3.13, for which ROS 2 wheels exist ($python is $("$python" --version 2>&1); with another one: make PYTHON=python3.12)"
    else
        if [ -n "${ROS_DISTRO:-}" ]; then
            if ! has_python 'import rclpy'; then
                lacks "a Python that imports rclpy of the sourced ROS 2 $ROS_DISTRO ($python does not; with another one: make PYTHON=/usr/bin/python3)"
            elif ! has_python 'import rclpy.event_handler'; then
                lacks "ROS 2 Jazzy or newer (the sourced one is $ROS_DISTRO; in a shell that sources none, Jazzy comes from PyPI)"
            fi
        fi
        has_python 'import ensurepip, venv' || lacks "Python's venv module" python3-venv
        has_python 'import os, sysconfig; open(os.path.join(sysconfig.get_path("include"), "Python.h"))' ||
            lacks "Python's C headers, to build the messages" python3-dev
    fi
    command -v git >/dev/null || lacks "git" git
    command -v make >/dev/null || lacks "make" make
    command -v c++ >/dev/null && command -v cc >/dev/null || lacks "a C and C++ compiler, to build the messages" gcc g++
    if [ -z "${ROS_DISTRO:-}" ] && [ "$HOSTTYPE $OSTYPE" != "x86_64 linux-gnu" ]; then
        lacks "ROS 2: its wheels are for Linux on x86-64, so install ROS 2 and source its setup file first"
    fi
}

look_for_drawing() {
    local libraries
    libraries=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null)
    case $libraries in
        *libEGL.so.1*) ;;
        *) lacks "EGL, for off-screen rendering in the simulator" libegl1 ;;
    esac
    case $libraries in
        *libOpenGL.so.0*) ;;
        *) lacks "OpenGL, for off-screen rendering in the simulator" libopengl0 ;;
    esac
    case "$(compgen -G '/usr/lib/*/dri/*_dri.so') $libraries" in
        *_dri.so* | *libEGL_nvidia*) ;;
        *) lacks "a software renderer, for off-screen rendering in the simulator" libgl1-mesa-dri ;;
    esac
}

look_for_browser() {
    local release text
    if ! has_browser; then
        text="a browser (Chromium or Chrome), for the tests of the replay's report"
        release=${OS_RELEASE:-/etc/os-release}
        if [[ -r $release && $'\n'$(<"$release") == *$'\n'ID=ubuntu* ]]; then
            lacks "$text; Ubuntu's own is a snap, which cannot open them"
            commands+=(".venv/bin/playwright install --with-deps chromium")
        else
            lacks "$text" chromium
        fi
    fi
}

look() {
    missing=()
    packages=()
    commands=()
    look_for_tools
    needed=${#missing[@]}
    # Whoever chose another way to draw needs none of this.
    if [ $drawing = yes ] && [ "${MUJOCO_GL:-egl}" = egl ]; then look_for_drawing; fi
    if [ $browser = yes ]; then look_for_browser; else needed=${#missing[@]}; fi
}

tell() {
    echo "This machine lacks:" >&2
    printf '  - %s\n' "${missing[@]}" >&2
    if [ ${#packages[@]} -gt 0 ]; then
        echo "On Debian and Ubuntu this installs it:" >&2
        echo "  sudo apt-get update && sudo apt-get install -y ${packages[*]}" >&2
    fi
    if [ ${#commands[@]} -gt 0 ]; then
        echo "${packages:+And }this, in $(pwd):" >&2
        printf '  %s\n' "${commands[@]}" >&2
    fi
}

# Installs what is missing, as far as it goes; fails where nobody can allow it.
install_missing() {
    local answer command as_root=()
    if [ ${#packages[@]} -eq 0 ] && [ ${#commands[@]} -eq 0 ]; then return 1; fi
    if [ ${#packages[@]} -gt 0 ]; then command -v apt-get >/dev/null || return 1; fi
    if [ "$EUID" != 0 ]; then as_root=(sudo); fi
    if [ -t 0 ]; then
        read -r -p "Run that now? [Y/n] " answer
        case $answer in "" | [yY]*) ;; *) return 1 ;; esac
    elif [ "$EUID" != 0 ]; then
        return 1
    fi
    if [ ${#packages[@]} -gt 0 ]; then
        echo "Installing ${#packages[@]} Debian packages and what they need" >&2
        # Without a terminal of its own dpkg says each of its steps on standard output, and what is wrong on standard error.
        "${as_root[@]}" apt-get update -qq &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 \
                --no-install-recommends "${packages[@]}" >/dev/null ||
            echo "Not all of it could be installed." >&2
    fi
    for command in "${commands[@]}"; do
        $command || echo "That failed: $command" >&2
    done
}

look
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi
tell
if [ $install = yes ] && install_missing; then
    look
    if [ ${#missing[@]} -eq 0 ]; then exit 0; fi
    tell
fi
if [ "$needed" -gt 0 ]; then exit 2; fi
echo "The tests that need this are skipped; the end of the tests lists them." >&2
