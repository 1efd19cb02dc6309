"""A libvirt domain taken over: its description becomes commands, its image is its disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from machines import World, eventually

from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live

XML = """<domain type='kvm'>
  <name>old1</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc-i440fx-2.8'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{initrd}</initrd>
    <cmdline>console=ttyS0 quiet no_timer_check lodom.name=old1 lodom.ip=10.97.1.61/24
 lodom.heartbeat=10.97.1.254:7999 lodom.disk=1</cmdline></os>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
      <source file='{image}'/><target dev='vda' bus='virtio'/></disk>
    <interface type='network'><mac address='52:54:00:00:00:61'/>
      <source network='default'/><model type='virtio'/></interface>
    <graphics type='vnc'/>
  </devices>
</domain>"""


def test_an_image_and_its_domain_are_taken_over(
    world: World, guest: tuple[Path, Path], tmp_path: Path
) -> None:
    """Show it, do it, start it, move it."""
    image, file = tmp_path / "old1.qcow2", tmp_path / "old1.xml"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "32M"], check=True)
    kernel, initrd = guest
    file.write_text(
        XML.format(kernel=kernel, initrd=initrd, image=image).replace("\n lodom", " lodom")
    )
    order = [Path(sys.executable).with_name("ldm-setup"), "import-libvirt", file]
    where = {**os.environ, "LODOM_SOCKET": str(world.a.placed.socket)}
    shown = subprocess.run(order, env=where, capture_output=True, text=True, check=False)
    assert (shown.returncode, world.a.names()) == (1, ["primary"])
    assert "graphics vnc: the console is a serial line" in shown.stdout
    done = subprocess.run([*order, "--yes"], env=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    volume = "old1-vda@primary-vds0"
    try:
        world.b.ldm("add-vdsdev", str(image), volume)
        world.a.ldm("bind-domain", "old1")
        with Heartbeats() as beats:
            world.a.ldm("start-domain", "old1")
            beats.first("old1", within=60)
            eventually(lambda: world.a.has_up("old1"), "flag n", within=30)
            world.a.migrate("old1", world.b)
            assert len(beats.boots("old1")) == 1
        assert "old1" in world.b.names()
    finally:
        world.remove("old1")
        for machine in (world.a, world.b):
            machine.tried("remove-vdsdev", volume)
