"""libvirt's dialect, over any of its URIs. Inside, `import libvirt` is the binding: imports are absolute."""
