"""The one exception a user's mistake raises: a line that names the file, row or key, and what to do about it."""


class UserError(Exception):
    """A mistake the user can mend. The command prints it as one line and exits with status 2; no traceback.

    Args:
        problem: what is wrong and where (file, row, key).
        remedy: what to do about it, as an instruction.
    """

    def __init__(self, problem: str, remedy: str):
        super().__init__(problem, remedy)
        self.problem, self.remedy = problem, remedy

    def __str__(self) -> str:
        text = f"{self.problem.rstrip('.')}. {self.remedy.rstrip('.')}."
        return " ".join(text.split())  # one line, whatever an underlying library put into its message


class NothingThereError(UserError):
    """A readable file holds nothing of this kind in the stretch asked for, say because its sound ends before its picture."""


def need_extra(package: str, extra: str) -> UserError:
    """The error for an optional package that is not installed; names the extra that brings it."""
    remedy = f"Install the extra {extra!r}, in the checkout: pip install -c constraints.txt -e '.[{extra}]'"
    return UserError(f"this needs the package {package!r}, which is not installed", remedy)
