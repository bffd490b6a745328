//! Links the kernel by its own script, without the C library.

fn main() {
    println!("cargo:rerun-if-changed=link.ld");
    let root = env!("CARGO_MANIFEST_DIR");
    for argument in ["-nostdlib", "-nostartfiles", "-static", "-no-pie"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-T{root}/link.ld");
    println!("cargo:rustc-link-arg-bins=-Wl,--build-id=none,-z,max-page-size=0x1000,-z,noexecstack");
}
