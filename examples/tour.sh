#!/bin/sh
# The tour of the README: a request that nobody serves, an upstream, a reply, and a hook.
#
#   make run             # in another terminal
#   examples/tour.sh     # or with other ports: examples/tour.sh 9080 9995 9001 9002
#
# Needs curl alone.  The ports are those of requests, of the control channel and of two backends.
set -eu

port=${1:-8080} control=${2:-1995} first=${3:-8001} second=${4:-8002}

# Print a command as a person types it, and run it.
run() {
    printf '$ %s\n' "$1"
    eval "$1" || exit
}

curl() {
    command curl --silent --show-error "$@"
}

# What an earlier tour has left.
curl --output /dev/null -X DELETE "localhost:$control/python/script.www.example.com"
curl --output /dev/null -X DELETE "localhost:$control/upstream/www.example.com"

run "curl -H 'Host: www.example.com' localhost:$port/"
run "curl -X PUT localhost:$control/upstream/www.example.com -d '{\"servers\": [
    {\"host\": \"127.0.0.1\", \"port\": $first}, {\"host\": \"127.0.0.1\", \"port\": $second}]}'"
run "curl -H 'Host: www.example.com' localhost:$port/"
run "curl -X POST localhost:$control/python/script.www.example.com --data-binary '
def on_request(request):
    if request.method == \"DELETE\":
        request.reject(403, \"nothing is deleted here\")'"
run "curl -X PUT localhost:$control/python/script.www.example.com"
run "curl -X DELETE -H 'Host: www.example.com' localhost:$port/"
