from tests.soak.ground import Ground


class LibvirtGround(Ground):
    name = "libvirt"
    harms = frozenset()
