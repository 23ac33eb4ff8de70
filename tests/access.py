"""What the access matrices of one host and of a Swarm have in common."""

# Runs beside a container, in its network: what listens there, whether there is a way to an address, and which of
# many addresses take a connection. Anything but these answers is a failure of the probe itself.
PROBE = """
import errno, ipaddress, json, socket, struct, sys
from concurrent.futures import ThreadPoolExecutor

def listening():
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in open(table).read().splitlines()[1:]:
            fields = line.split()
            host, _, port = fields[1].rpartition(":")
            # Loopback, Docker's DNS on 127.0.0.11 among it, is nobody else's.
            if fields[3] == "0A" and not (len(host) == 8 and host.endswith("7F")):
                ports.add(int(port, 16))
    return sorted(ports)

def routed(address):
    number = struct.unpack("<I", socket.inet_aton(address))[0]
    for line in open("/proc/net/route").read().splitlines()[1:]:
        fields = line.split()
        if number & int(fields[7], 16) == int(fields[1], 16):
            return True
    return False

def connect(target):
    try:
        socket.create_connection(tuple(target), timeout=1.5).close()
        return True
    except (TimeoutError, ConnectionRefusedError):
        return False
    except OSError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            return False
        raise

question = json.load(sys.stdin)
with ThreadPoolExecutor(256) as pool:
    answer = {
        "listening": listening(),
        "routed": [routed(a) for a in question["addresses"]],
        "open": list(pool.map(connect, question["targets"])),
    }
print(json.dumps(answer))
"""
