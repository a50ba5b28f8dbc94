"""Proxmox VE's dialect, spoken to the nodes of one cluster by proxmoxer and aiohttp."""
