#!/bin/sh
# Once, by an administrator of Vault: what the service may read, what its tokens are like, and what the agent may mint. It
# prints the agent's own token and nothing else; what Vault says of the rest goes to standard error.
#
#   VAULT=bao         the program, if it is not `vault`; it finds its server and token by the usual variables
#   ANTEROOM=PATH     anteroom, if it is not in PATH
#   MANIFEST=PATH     a manifest other than the one beside this script
#   LIFE=KEY=VALUE    how long a token of the service may live: token_period=1h, for as long as it is renewed within each hour, or
#                     token_explicit_max_ttl=720h, after which the service has to start again
set -eu
VAULT=${VAULT:-vault}
ANTEROOM=${ANTEROOM:-anteroom}
MANIFEST=${MANIFEST:-$(dirname "$0")/anteroom.toml}
LIFE=${LIFE:-token_period=1h}

# Both before anything is written: of a pipeline only the last command's failure ends the script.
service=$(ENVIRONMENT=production "$ANTEROOM" policy --manifest "$MANIFEST")
minter=$(ENVIRONMENT=production "$ANTEROOM" policy --minter --manifest "$MANIFEST")

printf '%s\n' "$service" | "$VAULT" policy write timeline-production - >&2
"$VAULT" write auth/token/roles/timeline-production \
  allowed_policies=timeline-production token_no_default_policy=true token_type=service orphan=true renewable=true \
  "$LIFE" >&2

# What the agent may do. One that serves several services has the first path of each of their minters.
printf '%s\n' "$minter" | "$VAULT" policy write anteroom-agent - >&2

# Its own token: no policy but that one, and it lives for as long as the agent renews it.
"$VAULT" token create -orphan -policy=anteroom-agent -no-default-policy -period=24h -field=token
