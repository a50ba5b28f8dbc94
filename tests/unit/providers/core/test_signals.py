from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.core.adapter import VM, PowerState, Problem, Reason, Signal
from providers.core.model import Delivery, Kind, Operation, Request, Sent, State
from providers.core.signals import Send, Wait, audible, deaf_reason, next_step, obstacle, reason_at_deadline
from tests.unit.providers.world import at

AGENT, TOOLS, ACPI = Signal.GUEST_AGENT, Signal.VMWARE_TOOLS, Signal.ACPI

signal_sets = st.lists(st.sampled_from(Signal), unique=True).map(tuple)
sent_signals = st.lists(
    st.builds(
        Sent,
        number=st.integers(1, 9),
        time=st.integers(0, 100).map(at),
        signal=st.sampled_from(Signal),
        delivery=st.sampled_from(Delivery),
    )
).map(lambda sent: tuple(sorted(sent, key=lambda one: one.time)))


def guest(*signals: Signal, problems: tuple[Problem, ...] = ()) -> VM:
    return VM("1", "web", PowerState.ON, signals=signals, problems=problems)


def waiting(*sent: Sent, order: tuple[Signal, ...] = (), interval: float = 10) -> Operation:
    """An operation whose guest has from second 0 to second 100."""
    request = Request(
        kind=Kind.SHUTDOWN, vm_id="1", vm_name="web", signal_order=order, resend_interval=timedelta(seconds=interval)
    )
    return Operation(
        id="op",
        request=request,
        state=State.WAITING_FOR_GUEST,
        create_time=at(0),
        timeout=timedelta(seconds=100),
        grace_start=at(0),
        force_after=at(100),
        sent=sent,
    )


def accepted(signal: Signal, second: float = 0) -> Sent:
    return Sent(number=round(second * 10) + 1, time=at(second), signal=signal, delivery=Delivery.ACCEPTED)


def refused(signal: Signal, second: float = 0) -> Sent:
    return Sent(number=round(second * 10) + 1, time=at(second), signal=signal, delivery=Delivery.REFUSED)


def test_a_vm_whose_host_does_not_answer_is_not_deaf() -> None:
    assert deaf_reason(VM("1", "web", PowerState.UNKNOWN), waiting()) is None


def test_the_best_that_is_heard_comes_first() -> None:
    assert next_step(guest(AGENT, ACPI), waiting(), at(0)) == Send(AGENT)


def test_the_policy_reorders_and_leaves_out() -> None:
    assert audible(guest(AGENT, TOOLS, ACPI), waiting(order=(ACPI, AGENT))) == (ACPI, AGENT)


def test_what_was_refused_is_followed_by_the_next() -> None:
    assert next_step(guest(AGENT, ACPI), waiting(refused(AGENT)), at(1)) == Send(ACPI)


def test_an_accepted_agent_is_left_alone_until_halfway() -> None:
    assert next_step(guest(AGENT, ACPI), waiting(accepted(AGENT)), at(1)) == Wait(at(50))


def test_an_accepted_agent_is_followed_by_acpi_halfway() -> None:
    assert next_step(guest(AGENT, ACPI), waiting(accepted(AGENT)), at(50)) == Send(ACPI)


def test_an_agent_alone_is_followed_by_nothing() -> None:
    assert next_step(guest(AGENT), waiting(accepted(AGENT)), at(50)) == Wait(None)


def test_an_agent_that_left_after_it_was_asked_is_going_down_with_its_guest_and_is_not_pressed() -> None:
    assert next_step(guest(ACPI), waiting(accepted(AGENT)), at(60)) == Wait(None)


def unknown(signal: Signal, second: float = 0, times: int = 1) -> Sent:
    return Sent(number=1, time=at(second), signal=signal, delivery=Delivery.UNKNOWN, times=times)


@pytest.mark.parametrize("signal", [AGENT, ACPI])
def test_what_may_not_have_reached_the_guest_is_sent_again(signal: Signal) -> None:
    assert next_step(guest(AGENT, ACPI), waiting(unknown(signal), order=(signal,)), at(1)) == Send(signal)


def test_the_pause_before_that_grows() -> None:
    assert next_step(guest(AGENT), waiting(unknown(AGENT, 10, times=4)), at(11)) == Wait(at(18))


def test_a_press_that_may_have_reached_the_guest_is_not_repeated_where_presses_are_not() -> None:
    assert next_step(guest(ACPI), waiting(unknown(ACPI), interval=0), at(1)) == Wait(None)


def test_a_refusal_after_one_that_may_have_reached_the_guest_proves_nothing() -> None:
    operation = waiting(unknown(AGENT), Sent(number=2, time=at(1), signal=AGENT, delivery=Delivery.REFUSED))
    assert deaf_reason(guest(AGENT), operation) is None
    assert reason_at_deadline(guest(AGENT), operation) is Reason.TIMEOUT


def test_acpi_is_repeated_after_its_interval() -> None:
    operation = waiting(accepted(ACPI, 7))
    assert next_step(guest(ACPI), operation, at(16)) == Wait(at(17))
    assert next_step(guest(ACPI), operation, at(17)) == Send(ACPI)


def test_acpi_is_not_repeated_before_its_answer_has_come() -> None:
    sending = Sent(number=1, time=at(0), signal=ACPI)
    assert next_step(guest(ACPI), waiting(sending), at(60)) == Wait(None)


def test_a_guest_that_was_asked_by_an_earlier_operation_is_not_deaf() -> None:
    assert deaf_reason(guest(), waiting().model_copy(update={"asked_before": True})) is None


def test_acpi_is_never_repeated_at_an_interval_of_0() -> None:
    assert next_step(guest(ACPI), waiting(accepted(ACPI), interval=0), at(99)) == Wait(None)


def test_a_better_signal_that_appears_is_sent_at_once() -> None:
    assert next_step(guest(AGENT, ACPI), waiting(accepted(ACPI)), at(3)) == Send(AGENT)


def test_a_guest_that_hears_nothing_has_no_tools() -> None:
    assert deaf_reason(guest(), waiting()) is Reason.TOOLS_UNAVAILABLE


def test_a_guest_that_refused_all_it_hears_failed_the_command() -> None:
    assert deaf_reason(guest(AGENT, ACPI), waiting(refused(AGENT), refused(ACPI))) is Reason.COMMAND_FAILED


def test_a_guest_that_hears_nothing_is_forced_for_what_its_forecast_says() -> None:
    broken = Problem("HA has given it up.", Reason.COMMAND_FAILED)
    assert deaf_reason(guest(problems=(broken,)), waiting()) is Reason.COMMAND_FAILED
    assert reason_at_deadline(guest(problems=(broken,)), waiting()) is Reason.COMMAND_FAILED


def test_the_obstacle_is_what_the_forecast_says_of_the_reason() -> None:
    vm = guest(problems=(Problem("Old tools."), Problem("A backup holds it.", Reason.LOCKED)))
    assert [obstacle(vm, reason) for reason in (Reason.LOCKED, Reason.TIMEOUT)] == ["A backup holds it.", ""]


def test_a_vm_that_is_gone_has_no_obstacle() -> None:
    assert obstacle(None, Reason.LOCKED) == ""


def test_a_guest_that_has_another_signal_left_is_not_deaf() -> None:
    assert deaf_reason(guest(AGENT, ACPI), waiting(refused(AGENT))) is None


def test_a_guest_that_has_been_asked_is_given_its_time() -> None:
    assert deaf_reason(guest(), waiting(accepted(ACPI))) is None


@pytest.mark.parametrize("reason", [Reason.PAUSED, Reason.SUSPENDED, Reason.QUESTION_PENDING, Reason.LOCKED])
def test_an_obstacle_names_itself(reason: Reason) -> None:
    assert deaf_reason(guest(problems=(Problem("x", reason),)), waiting()) is reason


def test_a_passing_obstacle_is_waited_for() -> None:
    assert deaf_reason(guest(problems=(Problem("x", Reason.LOCKED, passing=True),)), waiting()) is None


def test_a_passing_obstacle_that_did_not_pass_is_the_reason() -> None:
    locked = guest(problems=(Problem("x", Reason.LOCKED, passing=True),))
    assert reason_at_deadline(locked, waiting()) is Reason.LOCKED


def test_a_guest_without_time_to_be_asked_timed_out() -> None:
    assert reason_at_deadline(guest(ACPI), waiting()) is Reason.TIMEOUT


def test_a_warning_is_no_obstacle() -> None:
    assert deaf_reason(guest(ACPI, problems=(Problem("it restarts when it shuts down"),)), waiting()) is None


@given(signal_sets, signal_sets, sent_signals, st.integers(0, 200), st.integers(0, 60))
def test_only_what_the_guest_hears_and_the_policy_allows_is_ever_sent(
    heard: tuple[Signal, ...], order: tuple[Signal, ...], sent: tuple[Sent, ...], now: int, interval: int
) -> None:
    step = next_step(guest(*heard), waiting(*sent, order=order, interval=interval), at(now))
    if isinstance(step, Send):
        assert step.signal in heard
        assert not order or step.signal in order


@given(signal_sets, sent_signals, st.integers(0, 200))
def test_what_was_refused_is_never_sent_again(heard: tuple[Signal, ...], sent: tuple[Sent, ...], now: int) -> None:
    numbered = tuple(one.model_copy(update={"number": n}) for n, one in enumerate(sent, 1))
    step = next_step(guest(*heard), waiting(*numbered), at(now))
    last = {one.signal: one for one in numbered}
    assert not isinstance(step, Send) or step.signal not in last or not last[step.signal].refused


@given(signal_sets, sent_signals, st.integers(0, 200))
def test_only_acpi_is_ever_sent_twice_if_it_has_reached_the_guest(
    heard: tuple[Signal, ...], sent: tuple[Sent, ...], now: int
) -> None:
    step = next_step(guest(*heard), waiting(*sent), at(now))
    known = {one.signal for one in sent} - {one.signal for one in sent if one.delivery is Delivery.UNKNOWN}
    assert not isinstance(step, Send) or step.signal is ACPI or step.signal not in known


@given(signal_sets, sent_signals, st.integers(0, 200))
def test_a_wait_ends_in_the_future(heard: tuple[Signal, ...], sent: tuple[Sent, ...], now: int) -> None:
    step = next_step(guest(*heard), waiting(*sent), at(now))
    assert not isinstance(step, Wait) or step.until is None or step.until > at(now)


@given(signal_sets, signal_sets, sent_signals, st.integers(0, 200))
def test_a_guest_with_something_to_be_sent_is_not_called_deaf(
    heard: tuple[Signal, ...], order: tuple[Signal, ...], sent: tuple[Sent, ...], now: int
) -> None:
    vm, operation = guest(*heard), waiting(*sent, order=order)
    assert deaf_reason(vm, operation) is None or next_step(vm, operation, at(now)) == Wait(None)
