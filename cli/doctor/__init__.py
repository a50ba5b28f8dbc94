"""What keeps VMs from going down gracefully, who acts, and by which command."""
