"""libvirt's dialect, over any of its URIs. Inside, `import libvirt` is the binding: imports are absolute."""

import os

# libvirt begins ssh by a fork, of which gRPC would print a line that is no JSON. Nothing of gRPC goes on in the child.
# It is asked when gRPC is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # noqa: TID251 - a library's variable, set for it
