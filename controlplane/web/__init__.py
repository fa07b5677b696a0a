"""tidegate over HTTP: alert webhooks and launches in; health, metrics, status and the dashboard out.

Owns requests and answers, and nothing that decides: what comes in leaves as events through a port, what goes out is folded from events.
Start at `routes`; `server` puts them on a socket, `controlplane.services.web` joins them with NATS.
"""
