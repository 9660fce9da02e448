"""Processes: everything that reads configuration, opens a connection or prints.

``temporal`` connects to the server with the one project plugin, ``payloads`` defines what travels
and how, ``telemetry`` wires OpenTelemetry and the SDK's runtime, ``devserver`` runs Temporal's
development server.
"""
