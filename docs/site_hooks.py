"""For `make site`: files of the repository that a page links to become pages of the site, so that every link leads somewhere."""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

_ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)\s#]+)")
_LANGUAGES = {".toml": "toml", ".json": "json", ".py": "python", ".md": "markdown"}


def _repository_file(link: str, page: File) -> Path | None:
    """Return the file outside docs/ that a page's link names, or None for all other links."""
    found = (Path(page.abs_src_path).parent / link).resolve()
    inside = found.is_relative_to(_ROOT / "docs") or not found.is_relative_to(_ROOT)
    return None if inside or not found.is_file() else found


def _page_of(path: Path) -> PurePosixPath:
    return PurePosixPath("files", path.relative_to(_ROOT).as_posix() + ".md")


def on_files(files: Files, config: Any) -> Files:
    """Add a page with the text of each repository file that is linked to."""
    linked = {
        path
        for page in files.documentation_pages()
        for link in _LINK.findall(page.content_string)
        if (path := _repository_file(link, page)) is not None
    }
    for path in sorted(linked):
        name = path.relative_to(_ROOT).as_posix()
        text = f"# {name}\n\n````{_LANGUAGES.get(path.suffix, 'text')}\n{path.read_text(encoding='utf-8')}\n````\n"
        files.append(
            File.generated(
                config, str(_page_of(path)), content=text, inclusion=InclusionLevel.NOT_IN_NAV
            )
        )
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to files of the repository to their pages."""
    if page.file.abs_src_path is None or page.file.generated_by:
        return markdown
    up = "../" * (len(PurePosixPath(page.file.src_uri).parts) - 1)

    def lead(link: re.Match[str]) -> str:
        path = _repository_file(link[1], page.file)
        return link[1] if path is None else f"{up}{_page_of(path)}"

    return _LINK.sub(lead, markdown)
