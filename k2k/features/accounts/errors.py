"""What can go wrong with accounts."""

from k2k.core.errors import Unauthenticated, Unavailable


class WrongCredentials(Unauthenticated):
    """Unknown address, wrong password or a closed account: deliberately not told apart."""

    code = "wrong-credentials"
    number = 1100
    title = "The e-mail or the password is wrong"


class RefreshRefused(Unauthenticated):
    """The refresh token does not hold, has run out, or was used before (which ends its sign-in)."""

    code = "refresh-refused"
    number = 1101
    title = "This refresh token no longer works: sign in again"


class SignInBusy(Unavailable):
    """More people are signing in than hashes can be computed; nothing was tried."""

    code = "sign-in-busy"
    number = 1102
    title = "Too many people are signing in right now: try again in a moment"
