#!/bin/sh
# The application of the containers that run for long. Each second it takes what lies in the secrets directory at that
# moment, and with it opens a new connection to PostgreSQL and a new one with TLS to itself, each side with the
# certificate and checking the other's.
#
#   steady POSTGRES_PORT SECONDS
#
# Prints "works USER SERIAL" when all went well, else a line with FAILED for each thing that did not; after SECONDS
# "done", and ends with 0. At SIGTERM it prints "leaving" and ends with 7.
port=$1
until=$(($(date +%s) + $2))
trap 'echo leaving; exit 7' TERM

log_in() {
    answer=$(PGPASSWORD=$password psql -XwAtq -h 127.0.0.1 -p "$port" -d postgres -U "$user" -c 'SELECT current_user' 2>&1)
    [ "$answer" = "$user" ] || echo "FAILED to log in as $user: $answer"
}

shake_hands() {
    sed '1,/END CERTIFICATE/d' tls.crt >chain.crt
    identity='-cert tls.crt -cert_chain chain.crt -key tls.key -CAfile ca.crt -x509_strict -verify_return_error'
    # The status page comes only when the server is content with the client's certificate.
    openssl s_server -unix socket -naccept 1 -www -quiet -Verify 3 $identity >server.log 2>&1 </dev/null &
    server=$!
    while [ ! -S socket ] && kill -0 $server; do sleep 0.01; done
    printf 'GET / HTTP/1.0\r\n\r\n' |
        openssl s_client -unix socket -quiet -ign_eof -verify 3 -verify_hostname localhost $identity >page 2>client.log
    kill $server 2>/dev/null
    wait $server 2>/dev/null
    grep -q 'Verify return code: 0 (ok)' page || echo "FAILED to shake hands: $(cat client.log server.log)"
}

# Reads all from the one generation that is opened here, whatever is published meanwhile.
take() {
    cd -P /run/secrets/..data || return
    # No newline ends them, which is an end of file for read.
    read -r user <db/username
    read -r password <db/password
    cp tls.crt tls.key ca.crt /tmp/used && cd /tmp/used
}

use() {
    take || echo 'FAILED to read the files'
    log_in
    shake_hands
    health=$(/anteroom health 2>&1) || echo "FAILED to be healthy: $health"
    echo "$user $(openssl x509 -noout -serial -in tls.crt)" >used
}

while [ "$(date +%s)" -lt "$until" ]; do
    sleep 1 &
    second=$!
    rm -rf /tmp/used
    mkdir /tmp/used
    failures=$(use 2>&1)
    echo "${failures:-works $(cat /tmp/used/used)}"
    wait $second
done
echo done
