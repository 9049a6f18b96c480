#!/bin/sh
# The agent runs on this host, by contrib/anteroom-agent.service. This is all that a service needs from then on, at every
# start and restart; the image has anteroom as its ENTRYPOINT and anteroom.toml at /etc/anteroom.toml.
set -eu
docker run --detach --name timeline --restart on-failure --network "${NETWORK:-bridge}" \
  --read-only --cap-drop ALL --user 1000:1000 --tmpfs /run/secrets \
  --label app=timeline --label environment=production \
  --env ENVIRONMENT=production --env VAULT_ADDR="${VAULT_ADDR:-https://vault.example.io:8200}" \
  timeline:1
