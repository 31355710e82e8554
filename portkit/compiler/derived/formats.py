"""What the derivations need to know of f32 and f64: layout, integer twins, and polynomials that are good enough.

Every polynomial is a minimax approximation by Remez' exchange algorithm, its coefficients rounded to the format one by
one from the lowest power while the rest is fitted anew, as far as that helps (`bench.minimax`; J.-M. Muller, Elementary
Functions, 3rd edition, chapter 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property

from portkit.spec.types import F32, F64, DType, decode, encode

Coefficients = tuple[float, ...]


def _constant(write: str) -> Fraction:
    return Fraction(Decimal(write))


LN2 = _constant("0.693147180559945309417232121458176568075500134360255254")
LOG2_E = _constant("1.442695040888963407359924681001892137426645954152985934")


def scaled_pi(bits: int) -> int:
    """Return pi * 2^bits, cut: by Machin's formula, pi = 16 arctan(1/5) - 4 arctan(1/239)."""
    guard = 32
    one = 1 << (bits + guard)

    def arctan_of_inverse(n: int) -> int:
        total, term, k = 0, one // n, 1
        while term:
            total += term // k if k % 4 == 1 else -(term // k)
            term, k = term // (n * n), k + 2
        return total

    return (16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)) >> guard


HALF_PI = Fraction(scaled_pi(300), 1 << 301)


@dataclass(frozen=True)
class Format:
    """A float format and the polynomials for it; the argument of each is what its comment says.

    `exp`: ((e^r - 1)/r - 1)/r for |r| <= ln 2. `exp2`: (2^f - 1)/f for |f| <= 1/2. `log`: (ln(1+f) - f)/f^2 and `log2`:
    (log2(1+f) - f log2 e)/f^2 for |f| <= 1/3. `tanh`: (tanh(a)/a - 1)/s in s = a^2 for a <= 5/8. `erf`: erf(a)/a - 1
    in s = a^2 for a <= 0.85; `erfc`: ln(erfc(t))/t + 1 for t from 0.8 to `erf_end`, from where erf rounds to 1.
    `atanh`: ((2 atanh(s)/s - 2)/z - 2/3)/(z ln 2) in z = s^2 for |s| <= 3 - sqrt 8.
    `sin tan`: (f(r)/r - 1)/s and `cos`: (cos r - 1 + s/2)/s^2 in s = r^2 for |r| <= pi/4.
    """

    dtype: DType
    exp: Coefficients
    exp2: Coefficients
    log: Coefficients
    log2: Coefficients
    tanh: Coefficients
    erf: Coefficients
    erfc: Coefficients
    sin: Coefficients
    cos: Coefficients
    tan: Coefficients
    atanh: Coefficients
    erf_end: float

    @property
    def mantissa(self) -> int:
        """How many bits of the significand are stored."""
        return self.dtype.precision - 1

    @property
    def bias(self) -> int:
        return self.dtype.emax

    @property
    def signed(self) -> str:
        """The signed integer of the same width."""
        return f"i{self.dtype.bits}"

    @property
    def unsigned(self) -> str:
        """The unsigned integer of the same width."""
        return f"u{self.dtype.bits}"

    @property
    def sign_bit(self) -> int:
        return 1 << (self.dtype.bits - 1)

    @property
    def rounder(self) -> float:
        """1.5 * 2^mantissa: added to a small number, it leaves the nearest integer in the low bits of the sum."""
        return 1.5 * 2.0**self.mantissa

    @property
    def least_normal(self) -> float:
        return 2.0**self.dtype.emin

    @cached_property
    def one(self) -> int:
        """The bit pattern of 1."""
        return self.bias << self.mantissa

    def rounded(self, value: Fraction, bits: int | None = None) -> Fraction:
        """Return a number rounded to the format, or to so many significant bits of it."""
        if bits is None:
            return Fraction(decode(self.dtype, encode(self.dtype, value)))
        scale = Fraction(2) ** (bits - 1 - _exponent(value))
        return Fraction(round(value * scale)) / scale

    def split(self, value: Fraction, bits: int) -> tuple[Fraction, Fraction]:
        """Return `value` as its leading bits, so that products by a small integer are exact, and the rest."""
        head = self.rounded(value, bits)
        return head, self.rounded(value - head)


def _exponent(value: Fraction) -> int:
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if Fraction(2) ** guess <= abs(value) else guess - 1


# fmt: off
FORMATS: dict[DType, Format] = {
    F32: Format(
        F32,
        exp=(0.5, 0.16666679084300995, 0.041666753590106964, 0.008332195691764355, 0.0013883119681850076,
                 0.00020157292601652443, 2.5768949853954837e-05),
        exp2=(0.6931471824645996, 0.24022649228572845, 0.055503588169813156, 0.009618316777050495,
              0.0013391327811405063, 0.00015378820535261184),
        log=(-0.49999988079071045, 0.33333325386047363, -0.25001585483551025, 0.20001958310604095,
                 -0.16609029471874237, 0.14182111620903015, -0.13243791460990906, 0.12902802228927612,
                 -0.07617557793855667),
        log2=(-0.7213473320007324, 0.4808984100818634, -0.3606991469860077, 0.2885574996471405,
                 -0.23953965306282043, 0.20475250482559204, -0.19192641973495483, 0.1855461299419403,
                 -0.10694530606269836),
        tanh=(-0.3333328068256378, 0.13331405818462372, -0.05373651534318924, 0.02062816731631756,
                 -0.0056922961957752705),
        erf=(0.12837916612625122, -0.37612587213516235, 0.11282826215028763, -0.02680564485490322,
                 0.005054902285337448, -0.0006331904442049563),
        erfc=(-0.12858156859874725, -0.6354345679283142, -0.10574964433908463, 0.023326510563492775,
                 -0.0034292228519916534, 0.000268626055913046, -5.652378149534343e-06),
        sin=(-0.16666655242443085, 0.008332187309861183, -0.00019517897453624755),
        cos=(0.04166664555668831, -0.0013887309469282627, 2.4432327336398885e-05),
        tan=(0.33333349227905273, 0.1333267241716385, 0.05405944958329201, 0.021282730624079704,
                 0.010837851092219353, 8.362215157831088e-05, 0.004380507860332727),
        atanh=(0.5770801901817322, 0.4118497967720032, 0.3378257155418396),
        erf_end=4.0,
    ),
    F64: Format(
        F64,
        exp=(0.5, 0.16666666666666666, 0.04166666666666666, 0.008333333333333635, 0.001388888888889193,
                 0.0001984126984091915, 2.480158729801746e-05, 2.7557319418221487e-06, 2.755732122514843e-07,
                 2.505205299103717e-08, 2.0876177249556035e-09, 1.6066810817790744e-10, 1.1554560843320946e-11,
                 7.240568137797113e-13),
        exp2=(0.6931471805599453, 0.2402265069591007, 0.055504108664823505, 0.00961812910762975, 0.0013333558145981184,
              0.00015403530390514265, 1.5252734234108745e-05, 1.3215489425748572e-06, 1.0177898896356189e-07,
              7.053848871467371e-09, 4.4789649790410036e-10, 2.7256134501542527e-11),
        log=(-0.5, 0.3333333333333363, -0.2500000000000029, 0.19999999999885193, -0.16666666666505442,
                 0.14285714300802507, -0.1250000002799028, 0.11111110145353664, -0.0999999776377911,
                 0.09090943493989201, -0.08333430204120827, 0.07691594028672401, -0.07140405805498082,
                 0.06675031015545362, -0.0628699022348594, 0.05837372676462831, -0.052336102427368365,
                 0.05218013586768619, -0.06411693837399869, 0.0634846093313012, -0.028909199833162),
        log2=(-0.7213475204444817, 0.4808983469629925, -0.3606737602222531, 0.28853900817600836,
                 -0.24044917347744685, 0.20609929178746222, -0.1803368806776203, 0.1602994343454641,
                 -0.1442694635674071, 0.13115460748888158, -0.12022622839111398, 0.11096613671980174,
                 -0.10300998821554248, 0.096297498935623, -0.09074549861746334, 0.08428294261430157,
                 -0.07528619283615097, 0.07472473679144666, -0.09275688602263504, 0.09325654300059927,
                 -0.042949251745896776),
        tanh=(-0.33333333333332854, 0.13333333333261907, -0.05396825393117613, 0.021869487573919592,
                 -0.008863220973495753, 0.0035919889352691685, -0.001454957639794072, 0.0005863124495265506,
                 -0.0002285558766798057, 7.713482290952474e-05, -1.6067871253283966e-05),
        erf=(0.1283791670955126, -0.3761263890318416, 0.11283791670977146, -0.026866170649791053,
                 0.005223977676065268, -0.0008548330231928729, 0.000120554596043562, -1.4928849546527514e-05,
                 1.6513683378055768e-06, -1.687390600767215e-07, 1.7509419907444124e-08, -1.7142001247176857e-09),
        erfc=(-0.12837917253614417, -0.6366197002055416, -0.1027730525441307, 0.019130191595322678,
                 0.00020445863165692474, -0.001686665179656669, 0.0005753583715430876, -7.969289026246344e-06,
                 -8.165310586838265e-05, 4.266274296931099e-05, -1.0893413856442208e-05, 2.3226427545646535e-07,
                 1.1340460749065191e-06, -5.920987897276521e-07, 1.8701370185839495e-07, -4.270271936227565e-08,
                 7.343232922967554e-09, -9.509949125231707e-10, 9.044064594405817e-11, -5.9789381644859295e-12,
                 2.45846062218287e-13, -4.738245835688105e-15),
        sin=(-0.16666666666666666, 0.008333333333333042, -0.00019841269840962473, 2.755731907398517e-06,
                 -2.5052070923623943e-08, 1.6054311687719964e-10, -7.389470795680628e-13),
        cos=(0.041666666666666595, -0.00138888888888733, 2.480158728895832e-05, -2.755731420046431e-07,
                 2.0875702717250225e-09, -1.1358592283462873e-11),
        tan=(0.3333333333333276, 0.1333333333341717, 0.0539682539254363, 0.021869489638747137,
                 0.008863218742990626, 0.0035922928952576974, 0.0014547346980420754, 0.0005951629798500465,
                 0.0002220891841372356, 0.00013712620993921326, -2.723562333880265e-05, 9.023554815750565e-05,
                 -4.53006948008117e-05, 2.0965574269216243e-05),
        atanh=(0.5770780163556181, 0.41219858309188306, 0.3205989022843784, 0.2623077001251601, 0.22198404616907225,
               0.191253982887397, 0.19039680319584684),
        erf_end=6.0,
    ),
}
# fmt: on
