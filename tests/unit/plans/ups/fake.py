"""An upsd that answers as it is told, on loopback."""

import asyncio
import ssl


class FakeUpsd:
    """`answers` are by what a line begins with; None: it never answers that. `asked` are the lines."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, str | None] = {
            "STARTTLS": "OK STARTTLS" if tls else "ERR FEATURE-NOT-CONFIGURED",
            "USERNAME": "OK",
            "PASSWORD": "OK",
            "LOGIN": "OK",
            "GET VAR lab ups.status": 'VAR lab ups.status "OL CHRG"',
            "GET VAR lab battery.charge": 'VAR lab battery.charge "97.5"',
            "GET VAR lab battery.runtime": 'VAR lab battery.runtime "1800"',
            "LOGOUT": "OK Goodbye",
        }
        self.asked: list[str] = []
        self.encrypted = False
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        """The name of its UPS."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"lab@localhost:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """All connections, without a word."""
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        if self._server:
            self._server.close()
            self.cut()
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while line := (await reader.readline()).decode().rstrip("\n"):
                self.asked.append(line)
                answer = next((told for begins, told in self.answers.items() if line.startswith(begins)), "ERR NO")
                if answer is not None:
                    writer.write(f"{answer}\n".encode())
                    await writer.drain()
                if line == "STARTTLS" and self._tls:
                    await writer.start_tls(self._tls)
                    self.encrypted = True
        except OSError:
            pass
        finally:
            writer.close()
