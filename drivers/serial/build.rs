//! Links the driver by the runtime's script, without the C library.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../libipc/rt/user.ld");
    println!("cargo:rerun-if-changed={script}");
    for argument in ["-nostdlib", "-nostartfiles", "-static", "-no-pie"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-T{script}");
    println!(
        "cargo:rustc-link-arg-bins=-Wl,--build-id=none,--gc-sections,-z,max-page-size=0x1000,-z,noexecstack"
    );
}
