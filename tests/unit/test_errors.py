"""Errors as values, and the exit code of many."""

from __future__ import annotations

import traceback
import weakref

import pytest

from g2s_cli.errors import ErrorStyle, ImageError, SomeFailedError, UsageError, WeightsError, as_g2s_error, try_call


def test_exceptions_are_returned_and_ctrl_c_passes() -> None:
    assert try_call(int, "12", base=3) == 5
    assert isinstance(try_call(int, "x"), ValueError)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try_call(interrupted)


def test_a_returned_exception_keeps_no_locals_alive() -> None:
    class Large:
        pass

    references = []

    def fail() -> None:
        large = Large()
        references.append(weakref.ref(large))
        raise MemoryError

    error = try_call(fail)
    assert isinstance(error, MemoryError)
    assert references[0]() is None
    assert "in fail" in "".join(traceback.format_exception(error))


def test_errors_of_g2s_stay_and_others_get_a_remedy() -> None:
    error = ImageError("a.png is damaged.", "Copy it again.")
    assert as_g2s_error(error) is error
    assert "Run it again with -v" in str(as_g2s_error(KeyError("x")))
    assert "Run it again" not in str(as_g2s_error(KeyError("x"), traceback_shown=True))


def test_a_name_is_replaced_in_the_message_and_the_remedy() -> None:
    error = ImageError("/tmp/x/stdin is no image.", "Look at /tmp/x/stdin.")
    renamed = error.replace_name("/tmp/x/stdin", "stdin")
    assert str(renamed) == "stdin is no image. Look at stdin."
    assert type(renamed) is ImageError
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
def test_the_exit_code_of_many_errors(errors: list[Exception], code: int) -> None:
    assert SomeFailedError("Some failed.", errors).exit_code == code


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(36, "File name too long", "x.png"), "x.png cannot be used: File name too long. Use a shorter name."),
        (OSError(13, "Permission denied", b"x.png"), "x.png cannot be used: Permission denied. Check the path."),
        (OSError(28, "No space left on device"), "No space left on device. Free space."),
        (
            FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"),
            "There is no folder for temporary files. Set TMPDIR to one that can be written to.",
        ),
        (OSError(5, "Input/output error"), "Something failed inside g2s: OSError: [Errno 5] Input/output error."),
    ],
)
def test_errors_of_the_system_are_sentences(error: OSError, sentence: str) -> None:
    assert str(as_g2s_error(error, traceback_shown=True)) == sentence


def test_an_error_is_one_line_whatever_a_library_says() -> None:
    error = WeightsError("gan.pt cannot be downloaded: it has 19 bytes.\nPlease retry.", "Fetch it again.")
    assert str(error) == "gan.pt cannot be downloaded: it has 19 bytes. Please retry. Fetch it again."


@pytest.mark.parametrize(
    ("what", "remedy", "text"),
    [
        ("--mesh-size 5 is out of range.", "Give 16 to 1024.", "mesh_size 5 is out of range. Give 16 to 1024."),
        (
            "out exists.",
            "Add --overwrite, or name another with -o.",
            "out exists. Add overwrite=True, or name another.",
        ),
        ("No face.", "Take the square (--no-align).", "No face. Take the square (align=False)."),
        ("a--face.jpg is missing.", "Look for it.", "a--face.jpg is missing. Look for it."),
        ("No weights.", "g2s weights pull cat --hub-repo X", "No weights. g2s weights pull cat --hub-repo X"),
    ],
)
def test_python_reads_arguments_for_flags(monkeypatch: pytest.MonkeyPatch, what: str, remedy: str, text: str) -> None:
    error = UsageError(what, remedy)
    assert str(error) == f"{what} {remedy}"
    monkeypatch.setattr(ErrorStyle, "flags", False)
    assert str(error) == text
    assert error.document()["error"]["what"] == what
