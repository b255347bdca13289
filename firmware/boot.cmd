# U-Boot's script: chooses a root slot, reads kernel and initrd out of it with their checksums checked, starts them.
# It uses block reads only, so a slot needs no file system U-Boot knows; image-build/imaging/slot.py is the format.
#
# The partition bootstate holds three variables, twice (a power cut hits one copy at most):
#   BOOT_ORDER=A B     slots in the order they are tried
#   BOOT_A_LEFT=3      starts left to prove itself; each start takes one, the running system gives them back
#   BOOT_B_LEFT=0

setenv vm_disk mmc
test "${devtype}" = usb && setenv vm_disk usb
test "${devtype}" = virtio && setenv vm_disk virtio
# Memory, from where this board's kernels go: 52 MiB of it unpacked, then room for the rest. U-Boot's own addresses
# lie closer together than this kernel is long.
setexpr vm_scratch ${kernel_addr_r} + 0x05c00000
setexpr vm_overlay_to ${kernel_addr_r} + 0x05d00000
setexpr vm_fdt_to ${kernel_addr_r} + 0x05e00000
setexpr vm_initrd_to ${kernel_addr_r} + 0x06000000
setexpr kernel_comp_addr_r ${kernel_addr_r} + 0x0a000000
setenv vm_blocks "${devtype} read"

# Boot state: the first copy whose checksum is right.
setenv BOOT_ORDER
part start ${devtype} ${devnum} bootstate vm_state
${vm_blocks} ${vm_scratch} ${vm_state} 0x20
env import -c ${vm_scratch} 0x4000 BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
if test -z "${BOOT_ORDER}"; then
    setexpr vm_second ${vm_state} + 0x20
    ${vm_blocks} ${vm_scratch} ${vm_second} 0x20
    env import -c ${vm_scratch} 0x4000 BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
fi
if test -z "${BOOT_ORDER}"; then
    echo "boot state unreadable: slot A, then B"
    setenv BOOT_ORDER "A B"
    setenv BOOT_A_LEFT 3
    setenv BOOT_B_LEFT 3
fi

# Which slot: the first with a start left; when none has, all get three again: a device that tries is
# better than one that stands still.
setenv vm_slot
for slot in ${BOOT_ORDER}; do
    setenv vm_get "setenv vm_left \${BOOT_${slot}_LEFT}"
    run vm_get
    if test -z "${vm_slot}" && test -n "${vm_left}" && itest ${vm_left} -gt 0; then
        setenv vm_slot ${slot}
        setexpr vm_left ${vm_left} - 1
        setenv BOOT_${slot}_LEFT ${vm_left}
    fi
done
if test -z "${vm_slot}"; then
    echo "no slot has starts left: all get three again"
    setenv BOOT_A_LEFT 3
    setenv BOOT_B_LEFT 3
    for slot in ${BOOT_ORDER}; do test -z "${vm_slot}" && setenv vm_slot ${slot}; done
fi
mw.b ${vm_scratch} 0 0x4000
env export -c -s 0x4000 ${vm_scratch} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
${devtype} write ${vm_scratch} ${vm_state} 0x20
setexpr vm_second ${vm_state} + 0x20
${devtype} write ${vm_scratch} ${vm_second} 0x20

# What a person may add on the card: overlays=panel i2s_dac, and more words for the kernel: extra=console=ttyS1.
setenv overlays
setenv extra
if fatload ${devtype} ${devnum}:1 ${vm_scratch} boot.env; then
    env import -t ${vm_scratch} ${filesize} overlays extra
fi
setexpr vm_board gsub "broadcom/" "" "${fdtfile}"
setexpr vm_board gsub ".dtb" "" "${vm_board}"

for slot in ${vm_slot} ${BOOT_ORDER}; do
    if test "${slot}" = A; then setenv vm_part root_a; setenv vm_letter a; else setenv vm_part root_b; setenv vm_letter b; fi
    setenv vm_format
    part start ${devtype} ${devnum} ${vm_part} vm_start
    ${vm_blocks} ${vm_scratch} ${vm_start} 8
    env import -t ${vm_scratch} 0x1000
    if test "${vm_format}" = 1; then
        echo "slot ${slot}: ${vm_version}"
        setenv vm_good 1
        # Without a device tree of the slot's own for this board: what the firmware or QEMU handed over.
        setenv vm_fdt ${fdt_addr}
        test -z "${vm_fdt}" && setenv vm_fdt ${fdtcontroladdr}
        for name in kernel initrd dtb_${vm_board}; do
            setenv vm_get "setenv vm_at \${vm_${name}_at}; setenv vm_n \${vm_${name}_blocks}; setenv vm_len \${vm_${name}_bytes}; setenv vm_sum \${vm_${name}_sum}"
            run vm_get
            if test -n "${vm_at}"; then
                setenv vm_to ${vm_fdt_to}
                if test ${name} = kernel; then setenv vm_to ${kernel_addr_r}; setenv vm_kernel_len ${vm_len}; fi
                if test ${name} = initrd; then setenv vm_to ${vm_initrd_to}; setenv vm_initrd_len ${vm_len}; fi
                test ${vm_to} = ${vm_fdt_to} && setenv vm_fdt ${vm_fdt_to}
                setexpr vm_at ${vm_start} + ${vm_at}
                ${vm_blocks} ${vm_to} ${vm_at} ${vm_n}
                # crc32 stores the sum big-endian, setexpr reads it little-endian: the header has it turned round.
                crc32 ${vm_to} ${vm_len} ${vm_scratch}
                setexpr.l vm_have *${vm_scratch}
                if test "${vm_have}" != "${vm_sum}"; then
                    echo "slot ${slot}: ${name} is damaged"
                    setenv vm_good 0
                fi
            fi
        done
        if test "${vm_fdt}" = "${vm_fdt_to}"; then
            fdt addr ${vm_fdt}
            fdt resize 16384
            for name in ${overlays}; do
                setenv vm_get "setenv vm_at \${vm_dtbo_${name}_at}; setenv vm_n \${vm_dtbo_${name}_blocks}"
                run vm_get
                if test -n "${vm_at}"; then
                    setexpr vm_at ${vm_start} + ${vm_at}
                    ${vm_blocks} ${vm_overlay_to} ${vm_at} ${vm_n}
                    fdt apply ${vm_overlay_to} || echo "overlay ${name} does not fit this board"
                else
                    echo "overlay ${name}: there is none"
                fi
            done
        fi
        if test "${vm_good}" = 1; then
            setenv bootargs "${vm_cmdline} voicemeet.slot=${vm_letter} rauc.slot=${slot} voicemeet.root=${vm_root} voicemeet.disk=${vm_disk} ${extra}"
            # booti unpacks a gzip by itself when it is told where to and how long the packed one is.
            setenv kernel_comp_size ${vm_kernel_len}
            booti ${kernel_addr_r} ${vm_initrd_to}:${vm_initrd_len} ${vm_fdt}
        fi
        echo "slot ${slot} does not start"
    fi
done
echo "no slot starts; again in 10 s"
sleep 10
reset
