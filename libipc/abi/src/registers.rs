//! A thread's registers, as `Tcb.read_registers` and `Tcb.write_registers` pass them in the IPC buffer.

/// Integer registers and segment bases; vector state is not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Flags: only the status flags, DF, TF and AC are taken over.
    pub rflags: u64,
    /// rax.
    pub rax: u64,
    /// rbx.
    pub rbx: u64,
    /// rcx.
    pub rcx: u64,
    /// rdx.
    pub rdx: u64,
    /// rsi.
    pub rsi: u64,
    /// rdi.
    pub rdi: u64,
    /// rbp.
    pub rbp: u64,
    /// r8 to r15.
    pub r: [u64; 8],
    /// FS base.
    pub fs_base: u64,
    /// GS base.
    pub gs_base: u64,
}

impl Registers {
    /// Words in the IPC buffer.
    pub const WORDS: usize = core::mem::size_of::<Registers>() / 8;

    /// As words, in the order of the fields.
    pub fn to_words(&self) -> [u64; Self::WORDS] {
        let r = &self.r;
        [
            self.rip,
            self.rsp,
            self.rflags,
            self.rax,
            self.rbx,
            self.rcx,
            self.rdx,
            self.rsi,
            self.rdi,
            self.rbp,
            r[0],
            r[1],
            r[2],
            r[3],
            r[4],
            r[5],
            r[6],
            r[7],
            self.fs_base,
            self.gs_base,
        ]
    }

    /// From words, in the order of the fields.
    pub fn from_words(words: &[u64; Self::WORDS]) -> Registers {
        let [
            rip,
            rsp,
            rflags,
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            fs_base,
            gs_base,
        ] = *words;
        let r = [r8, r9, r10, r11, r12, r13, r14, r15];
        Registers { rip, rsp, rflags, rax, rbx, rcx, rdx, rsi, rdi, rbp, r, fs_base, gs_base }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_survive_the_way_through_words() {
        let mut words = [0; Registers::WORDS];
        for (at, word) in words.iter_mut().enumerate() {
            *word = at as u64 + 1;
        }
        assert_eq!(Registers::from_words(&words).to_words(), words);
    }
}
