"""Failures as values, and what the failures of many photos add up to."""

from __future__ import annotations

import traceback
import weakref

import pytest

from g2s_cli.errors import ImageError, SomeFailedError, UsageError, WeightsError, as_g2s_error, try_call


def test_a_failure_is_a_value_and_ctrl_c_is_none() -> None:
    assert try_call(int, "12", base=3) == 5
    assert isinstance(try_call(int, "x"), ValueError)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try_call(interrupted)


def test_what_failed_keeps_nothing_alive() -> None:
    class Large:
        pass

    kept = []

    def fail() -> None:
        large = Large()
        kept.append(weakref.ref(large))
        raise MemoryError

    error = try_call(fail)
    assert isinstance(error, MemoryError)
    assert kept[0]() is None
    assert "in fail" in "".join(traceback.format_exception(error))


def test_what_g2s_says_itself_stays_as_it_is() -> None:
    error = ImageError("a.png is damaged.", "Copy it again.")
    assert as_g2s_error(error) is error
    assert "Run it again with -v" in str(as_g2s_error(KeyError("x")))
    assert "Run it again" not in str(as_g2s_error(KeyError("x"), traceback_shown=True))


def test_a_name_that_nobody_knows_is_put_as_one_that_they_do() -> None:
    error = ImageError("/tmp/x/stdin is no image.", "Look at /tmp/x/stdin.")
    spoken = error.replace_name("/tmp/x/stdin", "stdin")
    assert str(spoken) == "stdin is no image. Look at stdin."
    assert type(spoken) is ImageError
    assert str(error) == "/tmp/x/stdin is no image. Look at /tmp/x/stdin."
    some = SomeFailedError("/tmp/x/a.png failed.", [UsageError("a")])
    assert some.replace_name("/tmp/x/a.png", "a.png").exit_code == UsageError.exit_code


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([ImageError(""), ImageError("")], 3),
        ([MemoryError()], 5),
        ([ImageError(""), WeightsError("")], 1),
        ([UsageError(""), ZeroDivisionError()], 1),
    ],
)
def test_the_exit_code_of_many_is_theirs_where_they_agree(errors: list[Exception], code: int) -> None:
    assert SomeFailedError("Some failed.", errors).exit_code == code
