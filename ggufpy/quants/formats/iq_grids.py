"""The grids of the IQ types: which groups of levels have a number, and what is nearest to the others.

A group is 8 levels of 0..2 (IQ1, IQ2) or 4 levels of 0..7 (IQ3). Read as the digits of a number, the first
one lowest, it has a code; a grid numbers some of all codes, in ascending order.
Source of the grids: ggml-common.h, iq*_grid; of how many distances count as near: ggml-quants.c,
iq2xs_init_impl and iq3xs_init_impl.
"""

from __future__ import annotations

import zlib
from base64 import b85decode
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Grid(NamedTuple):
    """A grid of `points` groups of `dims` levels, `codes` groups in all."""

    places: tuple[int, ...]  # what a digit of a code is worth; the type tells compiled functions `dims`
    levels: NDArray[np.float32]  # (points, dims), 2 * level + 1
    point: NDArray[np.int32]  # (codes,), which point a code is, -1 for none
    near_start: NDArray[np.int32]  # (codes + 1,), where the points near a code without one begin in `near`
    near: NDArray[np.int32]  # points, nearest first, equally near ones in ascending order


@cache
def grid(name: str) -> Grid:
    """The grid "iq1", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs" or "iq3_s"."""
    base, dims = (8, 4) if name.startswith("iq3") else (3, 8)
    codes = base**dims
    places = tuple(base**i for i in range(dims))
    digits = np.arange(codes)[:, None] // places % base
    packed = np.frombuffer(zlib.decompress(b85decode(_MEMBERS[name])), np.uint8)
    members = np.flatnonzero(np.unpackbits(packed)[:codes])
    point = np.full(codes, -1, np.int32)
    point[members] = np.arange(len(members))
    others = np.flatnonzero(point < 0)
    counts, near = _nearest_points(digits[others], digits[members], _DISTANCES[name])
    near_start = np.zeros(codes + 1, np.int32)
    near_start[others + 1] = counts
    levels = (2 * digits[members] + 1).astype(np.float32)
    return Grid(places, levels, point, np.cumsum(near_start, dtype=np.int32), near)


def _nearest_points(
    groups: NDArray[np.int64], points: NDArray[np.int64], distances: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """How many points lie at the `distances` least distances of each group; the points, group after group."""
    a, b = groups.astype(np.float32), points.astype(np.float32)
    apart = ((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T).astype(np.uint8)
    limit = apart.min(1, keepdims=True)
    for _ in range(distances - 1):
        limit = np.where(apart > limit, apart, 255).min(1, keepdims=True)
    group, point = np.nonzero(apart <= limit)
    order = np.lexsort((point, apart[group, point], group))
    return np.bincount(group, minlength=len(groups)), point[order].astype(np.int32)


# Of how many different distances the points near a group are.
_DISTANCES = {"iq1": 3, "iq2_xxs": 2, "iq2_xs": 2, "iq2_s": 1, "iq3_xxs": 2, "iq3_s": 3}

# A bit for each code, highest bit of a byte first, whether it has a number; deflated.
_MEMBERS = {
    "iq1": (
        "c-k#eO>0z16uqyx#k83y_qA0qE*kA7fk#%6iL;cd<W&+S(JE7AEBc6nlGQ*KX*Z#@1057+gows$6w-}Cbfte_m;o2UY|_#*V"
        "Za~*x^U%6T=`Mm&aUdhx#ygF&eKOplgaU0)cQ?aLaWb`!=%}lC@i-gZEZ5CFdhU_><`D{U2pdIZAiiRBZ^Tjpc--1mjt-&r-"
        "O_l7bZy)3*%3zRUeyRXfJ~s5?<5PM<UK4aB<I3L}>n{hnc{+>K$G67mn>zvR$=UOtZPa7LUsmQWQ2bN)ou!Kj_yfb~LQyR=n"
        "ku)`P+=g=?+GNRyF#AueD^;Yg67k)HG=(os>Uh!rG~(gRxZza2HhyPsM)=qh9|ehXUldkU;_wA!C+2Fv`rcq!34!0Fqz%0;&"
        "7#XeAmBu`}t6ci#>+3WlSwzITy{$0C$RU8lhlWkibbyz6nxOL=l|4%yAAJ4G^LV^S*V!(*CwdNU%)Qrh$#q9cyW*tq|@QQ}j"
        "896#XTv`6q5lhc&*LLPVeEGcad$xT4&D*b^FV9bJ+^}ih*A`2jX2rIue$9q9{)`S!jt!g=X1D{vGEMnukjj}Wcvs!oqc~_d6"
        "1@aP1V3Bvcjc9uWpgt6=l#-;vm1GpU-HX*>(|GJ!F2C{R9{8qA7trFiLFJ0VD+S2Ny_0+jiaiUvPbU!Gt<44HyL$nQ%A{iI)"
        "xZW(;0iU=zRoe)YSg8LFF!L&Ei&Q)FngSxd==b)ez8IIEAq?gCPR1z1`cE#svx$dBcgrdMr~`+vY{G*{j)LdH7J(;|V_S3+r"
        "Eqj0{aUGZ~5`z3=#nUT2ypkIbf^7Qd%#dKF#22&cWI$B=(k{y*i-P-%7a6aqltG8tC11XWn$8wuQe)#`Rb$ezM@h+=MX6ehv"
        "4>@KW-1MD8)wE"
    ),
    "iq2_xxs": (
        "c-nPRORj`4470MbdWwiuj~R8vF<3s$DPNNQV8mEdDvh1mfzMz4@MsNM4-kL~Dg?0u3Z<Q}s#5&i%a^YL7=qILyw)W4Cso8iR"
        "nlpCLd`c4Du;C<RlH?aajd+e<FY7)k8>WSTt@47wX1jPqB41q=2e+&9hy;#r#nzQ(d`wV2I-N(E<X_7hks$x7)Do8!;TEvZc"
        "dv+$;Bf*s-;99+U-&7)=?KnsoS&M%ZZjW8ztGaG<oin^)>q~!#84@<5Q?C;cAe-jqH$lW6s<jvF<nQc*Z$~yKl@H%B$)D{-`"
        "Y{-_v~Aze0c0{sHUUCpi"
    ),
    "iq2_xs": (
        "c-mc2ORj`4470L|dWwh@;*?QWh*MOoP)|Aew9xme83;|{*iP^L>UVu^J$f&9<)%0;rYcZH@zkTcz*1-`0#F4vd)cqIa~EY0S"
        "(m36us~sl4e+uqnt+xnD5p1ifdk&k2^cqyDKl&hVwLuN#<u{Y#82-D2r2AS*#~B;6>b%zZ?$An2Qav5OyP;?IjC1*OUa>YNX"
        "BOJs!l*N%2M9ag1pZ#qbS<pDODX)Ys@FiGwcn?g7z}ZUJ85J?WuXe7)kq!xj_MC=sehbo`f6hw91-EjVApg;SBK(#S-ctqy5"
        "bslAAu_xaBeODLPcR%XL4jpOCvsj1dP@iIwgyVBr<uBI!nKMuUZZ1qQNNP<bV}FGN4KvRv{ky>(2~*Gt;x6q$P={6Cb#@3Df"
        "xx_wWh`vWo0U*P"
    ),
    "iq2_s": (
        "c-n1JOKt@r42!agI0c#&;*=39#3>LflvCCTO#7-9jpk=;Y=fB%TefG%OIlXuE_Fz<Ougf=%xu>+l3Bq8hyjg~lMrunmZ<Wy`"
        "~YGiEi#3On5vBd<vmKZSi%aW(psKWGWlAsphF>8rUC+;ZDfa(=s@_F#i0yss$-8fvv#Vf@jNV{kuiVLgA~66J1A2@4RVJKUx"
        "H}IH-$JpaZ^g})pmKjjd>lmojtPqGOJ!xqXVV(I)s3f1HneH&<4|id_Zsqi~d9|fZw$~1nHWO$bgs-@JBFei6qb36Asxo<#s"
        "4;BRhd~d<sfnbhG0<$t^)oE$@gK%zO1xyELVB%s1k`FAKZeJ@WjCtPZ6s4%XC=!ChZ<C{I5t%jB|RQ$q0^0H^%ZVVCdNfJ9H"
        "PfzZdmWSrg_I({bPgptf%^rJMcpz`hTS7u<>s9rVvW-WSa`T|j+oGk"
    ),
    "iq3_xxs": (
        "c-l=-K?=h#3{ye}VW$qZd!FLL9+1HvWO^EVh1sdkoaHp#R7#szmgHo6m{j1}>~2z^o7e*jro|>W6f;suxGq5ThwwrH-tdy3S"
        "=*8VCKknJ;ww~xN=C-Lt2kc1f`n?I#<sN&{qc;xi`rsIog^>xCi>0vO72GEj+P?`#G30*;dkafo0(MD70~26E5oy)Fh-PS2J"
        "_iYxE!Gh>5A3e2Aw8l#Lz*UZ2xyz&!sE!Xy7=t?heopubnm$;UMyR4j1Wf!f;*xLWT6+u!rw*Hy!tqyDZ17JdzPtf@!~_J7y"
        "rh&WtZi"
    ),
    "iq3_s": (
        "c-k#dK}rKb5Ud?m7(7iN59ovqtiR~U2pdlmS^v`sIn3TR;sZue5Z@6$Amj-`@D=vV+J}a&>aMEU{rNq)_mDQ1)6rXa`g-zl6"
        ")-xV9&D<-%sLtw(&E+K!8jAZAn=FIh`{BX?s3iZ9eL!0y{saQwa{i<M_rV8i?Gza!ZNf5Tx$=B>&%}&x2aFnb2>I1DZfG3@e"
        "JJ?w}Hf9jj>U<u}qaX$V(Q{%bJZi0qBwX8+P2=0D&xpG^*kpx3aC_+^woo1gDy;frCMb5s>PfCelExhl@Z5=M_J&lZwQK<TI"
        "aOt1Nd_t_Z4Nkqr(Irw~QLK*sjOloy2EUU#sN3YKfvLC9pG+yhGG#kO><KBF1{I~{B$E!8AqIlE}-BNQAl`R33C|JNFjj93D"
        "(#a!oZudm_a(c~OHe<Yb)Y4R?AVbTWv01QA~hX"
    ),
}
