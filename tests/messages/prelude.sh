# What the cases begin with; each runs in an empty folder, which is its home as well.
exec 2>&1

# The rest of a config that is good otherwise, below what is read.
rest() {
    cat >omnigate.toml
    has() { grep -q "^$1" omnigate.toml; }
    add() { printf '%s\n' "$@" >>omnigate.toml; }
    has '\[upstream\]' || has upstream || add '[upstream]' 'base_url = "https://acme.omniapp.co"'
    has '\[vault\]' || has vault || add '[vault]' 'backend = "env"'
    has '\[credentials\.org\]' || add '[credentials.org]' 'kind = "organization"' 'secret = "OMNI_API_KEY"'
    has '\[\[routes\]\]' || add '[[routes]]' 'name = "all"' 'path = "/{*rest}"' 'credential = "org"'
}

# What check says about it.
check() {
    rest
    omnigate check
}

# The same where the config names paths below the home, which is longer on some machines.
check_here() {
    rest
    said=$(omnigate check 2>&1)
    code=$?
    printf '%s\n' "$said" | sed 's/\^\^*/^/'
    return $code
}

# A config to start with: on free ports, and with an upstream where nobody is.
start() {
    {
        echo 'state_dir = "state"'
        cat
        echo '[server]'
        echo 'listen = "127.0.0.1:0"'
        echo '[admin]'
        echo "listen = \"127.0.0.1:${ADMIN:-0}\""
        echo '[upstream]'
        echo 'base_url = "http://127.0.0.1:1"'
    } >top
    rest <top
    rm top
}

# Has a gateway run meanwhile.
running() {
    OMNI_API_KEY=key omnigate serve >log 2>&1 </dev/null &
    gateway=$!
    touch log
    until grep -q '"serving"' log; do kill -0 $gateway || { cat log; break; }; sleep 0.02; done
    "$@"
    code=$?
    kill -TERM $gateway
    wait $gateway
    return $code
}

# What serve says where it does not start, without what stands in its log before.
serve() {
    OMNI_API_KEY=key timeout 20 omnigate serve >said 2>&1
    code=$?
    grep -v "^{" said
    return $code
}

# What serve says of a program in place of a vault.
program() {
    { echo '#!/bin/sh'; cat; } >tool && chmod 700 tool
    rest <<END
state_dir = "state"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[vault]
backend = "exec"
command = ["$HOME/tool"]
allow_exec = ["$HOME/tool"]
timeout = "${WITHIN:-10s}"
END
    serve
}

# What serve says of a Vault server that answers so.
vault_says() {
    echo token >token && chmod 600 token
    TOKEN='{ method = "token", token_file = "token" }'
    python3 "$REPOSITORY/tests/messages/vault.py" >port &
    server=$!
    until [ -s port ]; do kill -0 $server || break; sleep 0.02; done
    rest <<END
state_dir = "state"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[vault]
backend = "hashicorp"
address = "http://127.0.0.1:$(cat port)"
auth = ${AUTH:-$TOKEN}
refresh = "60s"
[credentials.org]
kind = "organization"
secret = { path = "omni/org", field = "token" }
END
    serve
    code=$?
    kill $server
    return $code
}

# Has something answer all with "STATUS BODY" meanwhile; its port is in $PORT.
answered() {
    SECRET=$1 python3 "$REPOSITORY/tests/messages/vault.py" >port &
    server=$!
    until [ -s port ]; do kill -0 $server || break; sleep 0.02; done
    PORT=$(cat port)
    shift
    "$@" >said 2>&1
    code=$?
    kill $server
    sed "s/127.0.0.1:$PORT/127.0.0.1:PORT/g" said
    rm port
    return $code
}

# What exec says of a gateway that answers so.
via() { answered "$1" eval 'omnigate exec --via "http://127.0.0.1:$PORT" -- true'; }

# The same, of the gateway's problem.
problem() { via "$1 {\"type\":\"urn:omnigate:problem:$2\",\"detail\":\"$3\"}"; }

# What explain says of an admin address that answers so.
online() {
    answered "$1" eval 'printf "[admin]\nlisten = \"127.0.0.1:$PORT\"\n" | rest; omnigate explain GET /api/v1/documents --online'
}
