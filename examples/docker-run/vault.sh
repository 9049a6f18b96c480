#!/bin/sh
# Once, by an administrator of Vault: what the service may read, what its tokens are like, and what the agent may mint.
# `bao` takes the same commands; a manifest other than ./anteroom.toml: MANIFEST=… sh vault.sh
set -eu
VAULT=${VAULT:-vault}
ANTEROOM=${ANTEROOM:-anteroom}
MANIFEST=${MANIFEST:-anteroom.toml}

ENVIRONMENT=production "$ANTEROOM" policy --manifest "$MANIFEST" | "$VAULT" policy write timeline-production -
"$VAULT" write auth/token/roles/timeline-production \
  allowed_policies=timeline-production token_no_default_policy=true token_type=service orphan=true renewable=true

# What the agent may do. One that serves several services has the first path of each of their minters.
ENVIRONMENT=production "$ANTEROOM" policy --minter --manifest "$MANIFEST" | "$VAULT" policy write anteroom-agent -

# Its own token: no policy but that one, and it lives for as long as the agent renews it.
"$VAULT" token create -orphan -policy=anteroom-agent -no-default-policy -period=24h -field=token
