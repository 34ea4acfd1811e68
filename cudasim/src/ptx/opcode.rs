//! The names of instructions and of their modifiers, as enums that a decoder can match on.
//! Which modifiers an instruction takes, in which order and with which types, stands in `table/*.txt`.

macro_rules! names {
    ($(#[$doc:meta])* $enum:ident: $($variant:ident $name:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $enum {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl $enum {
            /// Every value.
            pub const ALL: &[$enum] = &[$($enum::$variant,)*];

            /// As PTX spells it, without dots.
            pub fn name(self) -> &'static str {
                match self { $($enum::$variant => $name,)* }
            }

            /// The value of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some($enum::$variant),)* _ => None }
            }
        }
    };
}

names! {
    /// The base of an instruction: what stands before its first dot.
    Opcode:
    Abs "abs", Activemask "activemask", Add "add", Addc "addc", Alloca "alloca", And "and", Applypriority "applypriority",
    Atom "atom", Bar "bar", Barrier "barrier", Bfe "bfe", Bfi "bfi", Bfind "bfind", Bmsk "bmsk", Bra "bra",
    Brev "brev", Brkpt "brkpt", Brx "brx", Call "call", Clz "clz", Cnot "cnot", Copysign "copysign", Cos "cos",
    Cp "cp", Createpolicy "createpolicy", Cvt "cvt", Cvta "cvta", Discard "discard", Div "div", Dp2a "dp2a",
    Dp4a "dp4a", Elect "elect", Ex2 "ex2", Exit "exit", Fence "fence", Fma "fma", Fns "fns",
    Getctarank "getctarank", Griddepcontrol "griddepcontrol", Isspacep "isspacep", Ld "ld", Ldmatrix "ldmatrix",
    Ldu "ldu", Lg2 "lg2", Lop3 "lop3", Mad "mad", Mad24 "mad24", Madc "madc", Mapa "mapa", Match "match", Max "max",
    Mbarrier "mbarrier", Membar "membar", Min "min", Mma "mma", Mov "mov", Movmatrix "movmatrix", Mul "mul",
    Mul24 "mul24", Nanosleep "nanosleep", Neg "neg", Not "not", Or "or", Pmevent "pmevent", Popc "popc",
    Prefetch "prefetch", Prefetchu "prefetchu", Prmt "prmt", Rcp "rcp", Red "red", Redux "redux", Rem "rem",
    Ret "ret", Rsqrt "rsqrt", Sad "sad", Selp "selp", Set "set", Setmaxnreg "setmaxnreg", Setp "setp", Shf "shf",
    Shfl "shfl", Shl "shl", Shr "shr", Sin "sin", Slct "slct", Sqrt "sqrt", St "st", Stackrestore "stackrestore",
    Stacksave "stacksave", Stmatrix "stmatrix", Sub "sub",
    Subc "subc", Szext "szext", Tanh "tanh", Tensormap "tensormap", Testp "testp", Trap "trap", Vote "vote",
    Vabsdiff "vabsdiff", Vabsdiff2 "vabsdiff2", Vabsdiff4 "vabsdiff4", Vadd "vadd", Vadd2 "vadd2", Vadd4 "vadd4",
    Vavrg2 "vavrg2", Vavrg4 "vavrg4", Vmad "vmad", Vmax "vmax", Vmax2 "vmax2", Vmax4 "vmax4", Vmin "vmin",
    Vmin2 "vmin2", Vmin4 "vmin4", Vset "vset", Vset2 "vset2", Vset4 "vset4", Vshl "vshl", Vshr "vshr", Vsub "vsub",
    Vsub2 "vsub2", Vsub4 "vsub4", Wgmma "wgmma", Wmma "wmma", Xor "xor",
}

names! {
    /// A modifier that is neither a type, a state space, a vector width nor a matrix shape (those have their own
    /// places in a [`Form`](super::form::Form)).
    Modifier:
    A "a", Abs "abs", AcqRel "acq_rel", Acquire "acquire", Add "add", Alias "alias", Aligned "aligned", All "all",
    And "and", Any "any", Approx "approx", Arrive "arrive", ArriveDrop "arrive_drop", Async "async",
    AsyncGeneric "async::generic", B "b", B1024 "b1024", B4e "b4e", Ballot "ballot", Bfly "bfly", BoxDim "box_dim",
    Bulk "bulk", BulkGroup "bulk_group", C "c", Ca "ca", Cas "cas", Cc "cc", Cg "cg", Clamp "clamp", Cluster "cluster",
    Col "col", CommitGroup "commit_group", CompleteTx "complete_tx", CompleteTxBytes "mbarrier::complete_tx::bytes",
    CpFenceproxy "cp_fenceproxy", Cs "cs", Cta "cta", Cv "cv", Cvt "cvt", D "d", D1 "1d", D2 "2d", D3 "3d", D4 "4d", D5 "5d",
    Dec "dec", Down "down", Ecl "ecl", Ecr "ecr", ElementStride "element_stride", Elemtype "elemtype", Eq "eq",
    Equ "equ", Exch "exch", ExpectTx "expect_tx", F4e "f4e", Fence "fence", FillMode "fill_mode", Finite "finite",
    Fractional "fractional", Ftz "ftz", Full "full", Ge "ge", Geu "geu", Gl "gl", GlobalAddress "global_address",
    GlobalDim "global_dim", GlobalStride "global_stride", Gpu "gpu", Gt "gt", Gtu "gtu", Hi "hi", Hs "hs",
    Idx "idx", Im2col "im2col", Im2colNoOffs "im2col_no_offs", Inc "inc", Infinite "infinite", Init "init",
    InterleaveLayout "interleave_layout", Inval "inval", L1 "L1", L1EvictFirst "L1::evict_first",
    L1EvictLast "L1::evict_last", L1EvictNormal "L1::evict_normal", L1EvictUnchanged "L1::evict_unchanged",
    L1NoAllocate "L1::no_allocate", L2 "L2", L2CacheHint "L2::cache_hint", L2EvictFirst "L2::evict_first",
    L2EvictLast "L2::evict_last", L2EvictNormal "L2::evict_normal", L2EvictUnchanged "L2::evict_unchanged",
    L2Prefetch128 "L2::128B", L2Prefetch256 "L2::256B", L2Prefetch64 "L2::64B",
    LaunchDependents "launch_dependents", Le "le", Left "l", Leu "leu", Lo "lo", Load "load", Ls "ls", Lt "lt", Ltu "ltu",
    Lu "lu", M8n8 "m8n8", Mask "mask", Max "max", Mbarrier "mbarrier", MbarrierInit "mbarrier_init", Min "min",
    Mma "mma", MmaAsync "mma_async", Mmio "mmio", MulticastCluster "multicast::cluster", Nc "nc", Ne "ne", Neu "neu",
    NoComplete "noComplete", Noftz "noftz", Noinc "noinc", Normal "normal", Notanumber "notanumber",
    Number "number", Oob "oob", Or "or", Ordered "num", Pack "pack", Parity "parity", PendingCount "pending_count", Po "po",
    Popc "popc", Prefetch "prefetch", PropagateNan "NaN", Proxy "proxy", Range "range", Rank "rank", Rc16 "rc16",
    Rc8 "rc8", Read "read", Red "red", Reduce "reduce", Relaxed "relaxed", Release "release", Relu "relu",
    Replace "replace", Right "r", Rm "rm", Rmi "rmi", Rn "rn", Rna "rna", Rni "rni", Row "row", Rp "rp", Rpi "rpi",
    Rz "rz", Rzi "rzi", Sat "sat", Satfinite "satfinite", Sc "sc", Shiftamt "shiftamt", Shr15 "shr15", Shr7 "shr7", Store "store", Subnormal "subnormal",
    SwizzleMode "swizzle_mode", Sync "sync",
    SyncRestrictSharedCluster "sync_restrict::shared::cluster", SyncRestrictSharedCta "sync_restrict::shared::cta",
    Sys "sys", Tensor "tensor", Tensormap "tensormap", TensormapGeneric "tensormap::generic", TestWait "test_wait",
    Tile "tile", To "to", Trans "trans", TryWait "try_wait", Uni "uni", Unordered "nan", Up "up",
    Volatile "volatile", Wait "wait", WaitAll "wait_all", WaitGroup "wait_group", Warp "warp", Wb "wb", Weak "weak",
    Wide "wide", Wrap "wrap", Wt "wt", X1 "x1", X2 "x2", X4 "x4", Xor "xor", Xorsign "xorsign",
}

/// A matrix shape, `m16n8k16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Rows of A and D.
    pub m: u32,
    /// Columns of B and D.
    pub n: u32,
    /// Columns of A, rows of B.
    pub k: u32,
}

impl Shape {
    /// Reads `m16n8k16`. For 64 rows (wgmma) the columns must be a multiple of 8 up to 256.
    pub fn from_name(name: &str) -> Option<Self> {
        let (m, rest) = name.strip_prefix('m')?.split_once('n')?;
        let (n, k) = rest.split_once('k')?;
        let shape = Self { m: m.parse().ok()?, n: n.parse().ok()?, k: k.parse().ok()? };
        let wide = shape.m == 64 && (!shape.n.is_multiple_of(8) || shape.n > 256 || shape.n == 0);
        (!wide && [m, n, k].iter().all(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))).then_some(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_to_one() {
        for &opcode in Opcode::ALL {
            assert_eq!(Opcode::from_name(opcode.name()), Some(opcode));
        }
        for &modifier in Modifier::ALL {
            assert_eq!(Modifier::from_name(modifier.name()), Some(modifier));
        }
    }

    #[test]
    fn shapes() {
        assert_eq!(Shape::from_name("m64n256k16"), Some(Shape { m: 64, n: 256, k: 16 }));
        for wrong in ["m64n260k16", "m64n0k16", "m8n8", "mnk", "m+1n8k8", "m99999999999n8k8"] {
            assert_eq!(Shape::from_name(wrong), None, "{wrong}");
        }
    }
}
