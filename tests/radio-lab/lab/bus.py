"""The system bus: calls, properties, and objects of a scenario's own, such as advertisements."""

import subprocess
import json

from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_call, new_method_return
from jeepney.io.blocking import open_dbus_connection

PROPERTIES = "org.freedesktop.DBus.Properties"


class BusError(Exception):
    """What a service answered in place of a result; `name` is like `org.bluez.Error.Failed`."""

    def __init__(self, name, text):
        super().__init__(f"{name}: {text}")
        self.name = name


class Bus:
    """A connection. Calls to objects that the scenario exports are answered while it waits for something."""

    def __init__(self, service="org.bluez"):
        self.service = service
        self.connection = open_dbus_connection("SYSTEM")
        self.exported = {}

    def call(self, path, interface, member, signature=None, *arguments, timeout=30):
        """Answers what the method returned: nothing, one value, or a tuple. Variants are `(signature, value)` both ways."""
        address = DBusAddress(path, bus_name=self.service, interface=interface)
        message = new_method_call(address, member, signature, arguments)
        serial = next(self.connection.outgoing_serial)
        self.connection.send(message, serial=serial)
        while True:
            answer = self.connection.receive(timeout=timeout)
            if answer.header.message_type is MessageType.method_call:
                self.answer(answer)
            elif answer.header.fields.get(HeaderFields.reply_serial) == serial:
                break
        if answer.header.message_type is MessageType.error:
            raise BusError(answer.header.fields[HeaderFields.error_name], " ".join(map(str, answer.body)))
        return answer.body[0] if len(answer.body) == 1 else answer.body or None

    def get(self, path, interface, name):
        return self.call(path, PROPERTIES, "Get", "ss", interface, name)[1]

    def set(self, path, interface, name, signature, value):
        self.call(path, PROPERTIES, "Set", "ssv", interface, name, (signature, value))

    def objects(self):
        """Every object of the service: `{path: {interface: {property: value}}}`."""
        found = self.call("/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        return {
            path: {
                interface: {name: value for name, (_, value) in properties.items()}
                for interface, properties in interfaces.items()
            }
            for path, interfaces in found.items()
        }

    def export(self, path, interface, properties=(), methods=()):
        """Makes an object: properties `{name: (signature, value)}`, methods `{name: function(*arguments)}`."""
        self.exported[path] = interface, dict(properties), dict(methods)

    def answer(self, message):
        fields = message.header.fields
        interface, properties, methods = self.exported.get(fields[HeaderFields.path], (None, {}, {}))
        member = fields[HeaderFields.member]
        if interface and fields.get(HeaderFields.interface) == PROPERTIES and member == "GetAll":
            self.connection.send(new_method_return(message, "a{sv}", (properties,)))
        elif interface and fields.get(HeaderFields.interface) == interface:
            methods.get(member, lambda *_: None)(*message.body)
            self.connection.send(new_method_return(message))
        else:
            self.connection.send(new_error(message, "org.freedesktop.DBus.Error.UnknownMethod"))

    def serve(self, seconds):
        """Answers calls to exported objects for a while."""
        try:
            while True:
                message = self.connection.receive(timeout=seconds)
                if message.header.message_type is MessageType.method_call:
                    self.answer(message)
        except TimeoutError:
            pass

    def close(self):
        self.connection.close()


def busctl(*arguments, bus=None):
    """`busctl --json=short`, for what is easier to write down so. `bus`: an address, where it is not the system's."""
    which = f"--address={bus}" if bus else "--system"
    done = subprocess.run(["busctl", which, "--json=short", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BusError("busctl", done.stderr.strip())
    return json.loads(done.stdout)["data"] if done.stdout.strip() else None
