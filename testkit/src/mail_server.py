"""An SMTP server for tests, on aiosmtpd: STARTTLS first, then a login, then each message into a file.

Arguments: FOLDER USER PASSWORD. FOLDER holds certificate.pem and key.pem, and takes messages as
NUMBER.json (sender, recipients, text). While FOLDER/refusing exists every message is answered
with 451, as a mail server in trouble does.
"""

import json
import os
import ssl
import sys
import time

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

folder, user, password = sys.argv[1:4]


class Mailbox:
    count = 0

    async def handle_DATA(self, server, session, envelope):
        if os.path.exists(os.path.join(folder, "refusing")):
            return "451 4.3.0 Come back later"
        Mailbox.count += 1
        path = os.path.join(folder, "%06d.json" % Mailbox.count)
        message = {
            "sender": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "text": envelope.content.decode("utf-8", "replace"),
        }
        with open(path + ".part", "w", encoding="utf-8") as file:
            json.dump(message, file)
        os.rename(path + ".part", path)
        return "250 2.0.0 Taken"


def login(server, session, envelope, mechanism, data):
    right = data.login == user.encode() and data.password == password.encode()
    return AuthResult(success=right, handled=right)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(folder, "certificate.pem"), os.path.join(folder, "key.pem"))
controller = Controller(
    Mailbox(),
    hostname="127.0.0.1",
    port=int(sys.argv[4]),
    tls_context=context,
    require_starttls=True,
    authenticator=login,
    auth_required=True,
)
controller.start()
print("listening", flush=True)
while True:
    time.sleep(3600)
