"""What a start costs, beside what people use today."""

import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys

from measure.figures import interleaved, median, spread, table, verdict
from measure.servers import COMMON_NAME, KV, SIGN, Delay, manifest


# The best shell we could write: one openssl for key and request, two curls (the second one needs what the first got),
# one jq. It looks nothing up, checks nothing, and Java does not see the certificates in its truststore.
BEST_SHELL = r"""
set -eu
umask 077
cd "$SECRETS_DIR"
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$COMMON_NAME" \
    -addext "subjectAltName=DNS:$COMMON_NAME,DNS:localhost" -keyout tls.key -out csr 2>/dev/null
ask() { curl --silent --show-error --fail ${CA:+--cacert "$CA"} --config -; }
token=$(printf 'header = "X-Vault-Token: %s"\nrequest = POST\nurl = "%s/v1/sys/wrapping/unwrap"\n' "$TOKEN" "$ADDRESS" |
    ask | sed 's/.*"client_token":"\([^"]*\)".*/\1/')
csr=$(sed ':a;N;$!ba;s/\n/\\\\n/g' csr)
{
    printf 'header = "X-Vault-Token: %s"\ndata = "{\\"csr\\":\\"%s\\"}"\nurl = "%s/v1/%s"\n' \
        "$token" "$csr" "$ADDRESS" "$SIGN"
    for path in $READS; do
        printf 'next\nsilent\nfail\n'
        [ -z "$CA" ] || printf 'cacert = "%s"\n' "$CA"
        printf 'header = "X-Vault-Token: %s"\nurl = "%s/v1/%s"\n' "$token" "$ADDRESS" "$path"
    done
} | ask >answers
eval "$(jq -rs '@sh "certificate=\(.[0].data.certificate) chain=\(.[0].data.ca_chain | join("\n"))
    username=\(.[1].data.username) password=\(.[1].data.password) api_key=\(.[2].data.data.api_key)
    partner=\(.[3].data.data.api_key)"' answers)"
printf '%s\n' "$certificate" "$chain" >tls.crt
printf '%s\n' "$chain" >ca.crt
printf %s "$username" >username
printf %s "$password" >password
printf %s "$api_key" >api_key
printf %s "$partner" >partner
openssl pkcs12 -export -in tls.crt -inkey tls.key -name timeline -passout file:password -out keystore.p12
openssl pkcs12 -export -nokeys -in ca.crt -passout file:password -out truststore.p12
rm answers csr
exec "$@"
"""

# What is found in entrypoint scripts: a curl for each request, a jq for each field, keytool for a truststore that Java
# can read.
USUAL_SHELL = r"""
set -eu
umask 077
cd "$SECRETS_DIR"
openssl ecparam -name prime256v1 -genkey -noout -out ec.key
openssl pkcs8 -topk8 -nocrypt -in ec.key -out tls.key
openssl req -new -key tls.key -subj "/CN=$COMMON_NAME" -addext "subjectAltName=DNS:$COMMON_NAME,DNS:localhost" -out csr
ask() { curl --silent --show-error --fail ${CA:+--cacert "$CA"} --header "X-Vault-Token: $token" "$@"; }
token=$TOKEN
token=$(ask --request POST "$ADDRESS/v1/sys/wrapping/unwrap" | jq -r .auth.client_token)
jq -n --rawfile csr csr '{$csr}' | ask --data @- "$ADDRESS/v1/$SIGN" >sign.json
jq -r .data.certificate sign.json >leaf.pem
jq -r '.data.ca_chain[]' sign.json >ca.crt
cat leaf.pem ca.crt >tls.crt
set -- "$READS" "$@"
number=0
for path in $1; do
    number=$((number + 1))
    ask "$ADDRESS/v1/$path" >"answer-$number.json"
done
shift
jq -rj .data.username answer-1.json >username
jq -rj .data.password answer-1.json >password
jq -rj .data.data.api_key answer-2.json >api_key
jq -rj .data.data.api_key answer-3.json >partner
openssl rand -hex 16 >store.password
openssl pkcs12 -export -in tls.crt -inkey tls.key -name timeline -passout file:store.password -out keystore.p12
keytool -importcert -noprompt -trustcacerts -alias ca -file ca.crt -storetype PKCS12 -storepass:file store.password \
    -keystore truststore.p12 >/dev/null 2>&1
rm ec.key csr leaf.pem sign.json answer-*.json
exec "$@"
"""

APPLICATION = ["/bin/busybox", "true"]
READS = ["database/creds/timeline", *KV.values()]
FILES = {"tls.crt", "tls.key", "ca.crt", "keystore.p12", "truststore.p12"}


class Variants:
    """The ways to start the application with its secrets."""

    def __init__(self, bench, floor):
        self.bench, self.floor = bench, floor
        self.manifest = bench.write("anteroom.toml", manifest())
        for name, script in (("best.sh", BEST_SHELL), ("usual.sh", USUAL_SHELL)):
            bench.write(name, script)
        subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-subj", f"/CN={COMMON_NAME}", "-keyout", "floor.key", "-out", "floor.csr"],
                       check=True, cwd=bench.directory, stderr=subprocess.DEVNULL)

    def start(self, bao, address=None):
        directory = self.bench.fresh()
        environment = self.bench.with_vault(bao, directory, bao.mint()) | {"ANTEROOM_LOG": "human"}
        result = self.bench.run([self.bench.anteroom, "--manifest", self.manifest, "--", *APPLICATION],
                                environment | ({"VAULT_ADDR": address} if address else {}))
        *_, said = result
        if "anteroom: ready in" not in said or os.listdir(directory):
            sys.exit(f"bench: {directory} was not filled, or not emptied again:\n{said}")
        os.rmdir(directory)
        return result

    def bare(self, bao, address=None):
        csr = self.bench.directory / "floor.csr"
        server = [address or bao.address, bao.ca or "-"]
        return self.bench.run([self.floor, *server, csr, SIGN, *READS, "--", *APPLICATION],
                              {"FLOOR_TOKEN": bao.mint(), "FLOOR_STEPS": "1"})

    def shell(self, script, bao):
        directory = self.bench.fresh()
        result = self.bench.run(["/bin/sh", self.bench.directory / script, *APPLICATION], {
            "SECRETS_DIR": directory, "TOKEN": bao.mint(), "ADDRESS": bao.address, "CA": bao.ca or "", "SIGN": SIGN,
            "READS": " ".join(READS), "COMMON_NAME": COMMON_NAME})
        if missing := FILES - set(os.listdir(directory)):
            sys.exit(f"bench: {script} did not write {missing}")
        shutil.rmtree(directory)
        return result

    def dry_run(self):
        directory = self.bench.fresh()
        result = self.bench.run([self.bench.anteroom, "--manifest", self.manifest, "--secrets-dir", directory,
                                 "--dry-run", "--", *APPLICATION], {})
        shutil.rmtree(directory)
        return result

    def check(self):
        return self.bench.run([self.bench.anteroom, "check", "--manifest", self.manifest],
                              {"VAULT_ADDR": "https://vault.example.io"})


def steps_of_anteroom(results):
    """The medians of what anteroom's own last log line says."""
    steps = {}
    for *_, said in results:
        line = re.search(r"ready in \d+ ms: (.*?)(?: \w+=|$)", said, re.M)
        for name, taken in re.findall(r"(\w+) ([\d.]+)", line.group(1) if line else ""):
            steps.setdefault(name, []).append(float(taken))
    return ", ".join(f"{name} {statistics.median(taken):g}" for name, taken in steps.items())


def steps_of_floor(results):
    steps = {}
    for *_, said in results:
        for line in said.splitlines():
            path, taken = line.rsplit(" ", 1)
            steps.setdefault(path, []).append(int(taken) / 1000)
    return {path: statistics.median(taken) for path, taken in steps.items()}


def figures(variants, bao, runs, title):
    results = interleaved(runs, {
        "the application alone": lambda: variants.bench.run(APPLICATION, {}),
        "floor: a bare keep-alive client, PEM request made beforehand": lambda: variants.bare(bao),
        "**anteroom**": lambda: variants.start(bao),
        "best shell: one openssl, two curls, one jq": lambda: variants.shell("best.sh", bao),
        "curl + jq + openssl + keytool": lambda: variants.shell("usual.sh", bao),
        "`--dry-run -- true`": variants.dry_run,
        "`anteroom check`": variants.check,
    })
    alone, floor, start, best, usual, dry, check = results.values()
    print(f"## {title}; {runs} runs each, median (min..max)\n")
    table(["what", "ms", "CPU ms", "largest process, MiB"],
          [[name, spread(each), spread(each, 1), spread(each, 2, 1024)] for name, each in results.items()])
    against_floor, against_best, against_usual = (
        median(start) / median(floor), median(best) / median(start), median(usual) / median(start))
    print("anteroom's own log, medians in ms:", steps_of_anteroom(start))
    print("the floor's requests, medians in ms:",
          ", ".join(f"{path} {taken:.1f}" for path, taken in steps_of_floor(floor).items()), "\n", flush=True)
    peak = max(each[2] for each in start) / 1024
    rows = [
        ["start against the floor", "at most 1.5 times", f"{against_floor:.2f} times", verdict(against_floor, 1.5)],
        ["against the best shell", "at least 4 times faster", f"{against_best:.1f} times",
         verdict(against_best, 4, True)],
        ["against curl + jq + openssl + keytool", "at least 25 times faster", f"{against_usual:.1f} times",
         verdict(against_usual, 25, True)],
        ["user + system CPU of a start, and of the revocation at its end", "at most 15 ms",
         f"{median(start, 1):.1f} ms", verdict(median(start, 1), 15)],
        ["peak RSS of any anteroom process", "at most 8 MiB", f"{peak:.1f} MiB", verdict(peak, 8)],
        ["`--dry-run -- true` with Java stores", "at most 20 ms", f"{median(dry):.1f} ms", verdict(median(dry), 20)],
        ["`anteroom check`", "at most 5 ms", f"{median(check):.1f} ms", verdict(median(check), 5)],
    ]
    return [[f"{title}: {name}", *rest] for name, *rest in rows]


def with_latency(variants, bao, runs, title):
    print(f"## {title}, with added latency; {runs} runs each\n")
    rows = []
    for milliseconds in (0, 5, 20, 50):
        with contextlib.ExitStack() as stack:
            delay = Delay(stack, bao.port, milliseconds / 1000)
            address = bao.address.replace(str(bao.port), str(delay.port))
            results = interleaved(runs, {"floor": lambda: variants.bare(bao, address),
                                         "anteroom": lambda: variants.start(bao, address)})
            rows.append([milliseconds, spread(results["floor"], digits=0), spread(results["anteroom"], digits=0),
                         f"{median(results['anteroom']) / median(results['floor']):.2f}",
                         steps_of_anteroom(results["anteroom"])])
    table(["round trip, ms", "one connection, one request after the other (floor), ms", "anteroom, ms", "ratio",
           "its steps, ms"], rows)
