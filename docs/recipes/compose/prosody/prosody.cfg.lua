-- An XMPP server of one's own, with what the bridge makes use of: archive, resumption, carbons, files, blocking.
-- Accounts: docker compose exec prosody prosodyctl adduser you@xmpp.example.org
modules_enabled = {
  "roster", "saslauth", "tls", "disco", "ping", "version",
  "mam", "carbons", "smacks", "csi_simple", "pep", "blocklist", "vcard4", "vcard_legacy", "offline"
}
modules_disabled = { "s2s" }
c2s_require_encryption = true
authentication = "internal_hashed"
default_archive_policy = true
archive_expires_after = "1y"
smacks_hibernation_time = 600
log = { info = "*console" }
certificates = "certs"
VirtualHost "xmpp.example.org"
ssl = { certificate = "/etc/prosody/certs/xmpp.example.org.crt"; key = "/etc/prosody/certs/xmpp.example.org.key" }
