"""Files that have ended, or held up, a reader of manifests."""

HOSTILE = {
    "a date of YAML 1.1": b"apiVersion: v1\nkind: ConfigMap\nmetadata: {annotations: {asset-tag: 2024-19-07}}\n",
    "brackets": b"[" * 100_000,
    "aliases": b"a: &a [1, 1]\n" + b"".join(b"%c: &%c [%b]\n" % (n, n, b"*%c, " % (n - 1) * 9) for n in range(98, 110)),
    "digits": b"a: " + b"9" * 1_000_000,
    "more than may be": b"#" * 5_000_000,
    "no UTF-8": b"\xff",
}
