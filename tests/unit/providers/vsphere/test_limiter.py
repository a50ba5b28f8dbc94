from providers.vsphere.limiter import CallClass


def test_each_class_of_calls_has_a_limit_of_its_own() -> None:
    assert {kind.name: kind.limit for kind in CallClass} == {
        "STREAM": 2,
        "READ": 4,
        "ASK": 8,
        "POWER": 4,
        "PROGRAM": 4,
    }
