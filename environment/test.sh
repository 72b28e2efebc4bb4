#!/usr/bin/env bash
# Runs the tests that are named, or all: those that need ROS 2 in the foreground, the others beside them on a second core.
#   test.sh [PYTEST ARGUMENTS]
# Tests that failed are run once more when the machine is quiet, since real processes may miss a moment on a busy one.
# Their first failure stays in the output, and a test that fails twice fails the run.
set -um

if [ $# -gt 0 ]; then
    exec pytest "$@"
fi

log=$(mktemp)
others=
end() {
    [ -z "$others" ] || kill -- "-$others" 2>/dev/null
    rm -f "$log"
}
trap end EXIT
trap 'exit 130' INT TERM

part() {
    pytest -o cache_dir=".pytest_cache/$1" "${@:2}"
}

# Exit code 1 of pytest: tests failed. Any other is no question of another try.
again() {
    [ "$2" -eq 1 ] || return "$2"
    echo "The tests that failed are run once more:"
    part "$1" --last-failed --last-failed-no-failures none "${@:3}"
}

alone=(test/core test/documentation test/packaging)
with_ros=(test/ros test/launch)
part alone "${alone[@]}" >"$log" 2>&1 &
others=$!
part with_ros "${with_ros[@]}"
ros=$?
echo "The tests that need no ROS 2:"
wait "$others"
core=$?
others=
cat "$log"
again with_ros "$ros" "${with_ros[@]}"
ros=$?
again alone "$core" "${alone[@]}"
core=$?
exit $((ros ? ros : core))
