# What builds static binaries without a container engine; sourced by .ci/arm and .ci/allocators, with `cache` and `root` set by them.

install_compiler() { # rustc with the source of its standard library, and the emulators: unpacked, not installed
    if [ ! -x "$cache/rustc" ]; then
        local packages=(rustc-web rust-web-src libstd-rust-web-dev qemu-user-static)
        apt-get update -qq
        # The two whose names bear a version.
        packages+=($(apt-cache depends rustc-web libstd-rust-web-dev | sed -n 's/^ *Depends: \(libstd-rust-web-[0-9].*\|libllvm.*\)$/\1/p' | sort -u))
        packages+=($(apt-cache depends "${packages[@]: -1}" $(printf '%s\n' "${packages[@]}" | grep '^libstd-rust-web-[0-9]') \
            | sed -n 's/^ *Depends: \(libllvm.*\|libstd-rust-web-[0-9].*\)$/\1/p' | sort -u))
        (cd "$cache/debs" && apt-get download -qq $(printf '%s\n' "${packages[@]}" | sort -u))
        for deb in "$cache"/debs/*.deb; do dpkg -x "$deb" "$root"; done
        local libraries
        libraries="$(find "$root/usr/lib" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)"
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s/usr/bin/rustc --sysroot %s/usr "$@"\n' "$libraries" "$root" "$root" >"$cache/rustc"
        chmod +x "$cache/rustc"
    fi
    if [ ! -x "$cache/venv/bin/cargo-zigbuild" ]; then
        python3 -m venv "$cache/venv"
        "$cache/venv/bin/pip" install --quiet ziglang cargo-zigbuild
    fi
}

# The standard library is built with the program: for size, and without what reads debug information, which isn't in it.
build() { # target
    local variable="CARGO_TARGET_$(echo "$1" | tr 'a-z-' 'A-Z_')_RUSTFLAGS"
    env PATH="$cache/venv/bin:$PATH" RUSTC="$cache/rustc" RUSTC_BOOTSTRAP=1 "$variable=-C link-self-contained=no" \
        cargo-zigbuild build --locked --release -Z build-std=std,panic_unwind -Z build-std-features=panic-unwind,optimize_for_size \
        --target "$1" --target-dir "$cache/target"
}
