"""Resources of a Kubernetes API. Nothing outside this folder imports the client library."""
